//! Loom models of the buffer: all interleavings of two threads, within the bound of [`check`].
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --package otlp-collector --release --lib models`.

use loom::thread;

use crate::buffer::pool::{FreeList, PAGE_BYTES};
use crate::buffer::{Pool, Signal, SlabReader, SlabWriter, WakeOn, ring};
use crate::platform::sync::{Arc, AtomicBool, Ordering};

/// Runs `model` in every interleaving with at most three preemptions. Bugs of two threads that need
/// more are unknown so far, and without a bound some models take hours.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn pool(slabs: usize, spans_per_slab: u32) -> Arc<Pool> {
    Pool::new(slabs, 0, PAGE_BYTES, spans_per_slab).unwrap()
}

/// Writes one span whose bytes all equal `value`.
fn write(writer: &mut SlabWriter, value: u8) {
    writer.write(&[value; u8::MAX as usize][..usize::from(value)]);
}

/// Takes the committed spans and checks that they are complete, in order and unique.
fn take(reader: &mut SlabReader, expected: &mut u8) {
    let Some(batch) = reader.take() else { return };
    let mut bytes = &*batch;
    for _ in 0..batch.spans() {
        let (span, rest) = bytes.split_at(usize::from(*expected));
        assert!(span.iter().all(|byte| byte == expected));
        bytes = rest;
        *expected += 1;
    }
    assert!(bytes.is_empty());
}

#[test]
fn a_prefix_is_taken_while_the_writer_commits_and_seals() {
    check(|| {
        let pool = pool(1, 8);
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        let recorder = thread::spawn(move || {
            write(&mut writer, 1);
            write(&mut writer, 2);
            writer.seal(0);
        });
        let mut expected = 1;
        take(&mut reader, &mut expected);
        take(&mut reader, &mut expected);
        recorder.join().unwrap();
        take(&mut reader, &mut expected);
        assert_eq!(expected, 3);
        assert!(reader.is_exhausted());
        drop(reader);
        assert_eq!(pool.slabs_left(), 1);
    });
}

#[test]
fn a_slab_is_used_again_only_after_its_last_reader() {
    check(|| {
        let pool = pool(1, 8);
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        let again = Arc::clone(&pool);
        let recorder = thread::spawn(move || {
            write(&mut writer, 1);
            drop(writer);
            // Succeeds only in interleavings in which the reader was dropped already.
            if let Some((mut writer, _reader)) = Pool::open(&again, 0, 0) {
                write(&mut writer, 5);
            }
        });
        let mut expected = 1;
        take(&mut reader, &mut expected);
        drop(reader);
        recorder.join().unwrap();
    });
}

#[test]
fn slabs_cross_the_ring_and_nothing_is_lost_when_the_thread_exits() {
    check(|| {
        let pool = pool(2, 1);
        let (mut producer, mut consumer) = ring(2);
        let recorder = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                for value in 1..=2 {
                    let (mut writer, reader) = Pool::open(&pool, 0, 0).unwrap();
                    assert!(producer.push(reader).is_ok());
                    write(&mut writer, value);
                }
            })
        };
        let mut expected = 1;
        let mut open: Option<SlabReader> = None;
        loop {
            // Loaded before the last pop: if it is true, nothing is pushed after that.
            let abandoned = consumer.is_abandoned();
            while let Some(reader) = open.as_mut() {
                take(reader, &mut expected);
                if !reader.is_exhausted() {
                    break;
                }
                open = consumer.pop();
            }
            if open.is_none() {
                open = consumer.pop();
            }
            if open.is_none() && abandoned {
                break;
            }
            thread::yield_now();
        }
        recorder.join().unwrap();
        assert_eq!(expected, 3);
        assert_eq!(pool.slabs_left(), 2);
    });
}

#[test]
fn the_ring_gives_each_item_once_and_in_order() {
    check(|| {
        let (mut producer, mut consumer) = ring(2);
        let pushing = thread::spawn(move || {
            let mut refused = 0;
            for item in 0..3_u32 {
                refused += u32::from(producer.push(item).is_err());
            }
            refused
        });
        let mut seen: Vec<u32> = Vec::new();
        for _ in 0..2 {
            seen.extend(consumer.pop());
        }
        let refused = pushing.join().unwrap();
        while let Some(item) = consumer.pop() {
            seen.push(item);
        }
        assert_eq!(seen.len() as u32 + refused, 3);
        assert!(seen.is_sorted());
    });
}

#[test]
fn two_threads_never_get_the_same_slab() {
    check(|| {
        let pool = pool(2, 8);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || {
                    let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
                    write(&mut writer, 3);
                    let batch = reader.take().unwrap();
                    assert_eq!(&*batch, [3, 3, 3]);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.slabs_left(), 2);
    });
}

/// The ABA problem: a pop that read the head, and then the index below it, must fail if that head
/// was popped and pushed again meanwhile, because the index below may be in use by then.
#[test]
fn a_delayed_pop_fails_after_its_head_was_popped_and_pushed_again() {
    check(|| {
        let free = Arc::new(FreeList::new(2));
        free.push(1);
        free.push(0);
        let other = {
            let free = Arc::clone(&free);
            thread::spawn(move || {
                let first = free.pop();
                let kept = free.pop();
                first.into_iter().for_each(|index| free.push(index));
                kept
            })
        };
        let mut taken: Vec<u32> = free.pop().into_iter().collect();
        taken.extend(other.join().unwrap());
        while let Some(index) = free.pop() {
            assert!(taken.len() < 2, "an index is free twice");
            taken.push(index);
        }
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
    });
}

#[test]
fn a_complete_batch_is_seen_before_the_sleep_or_wakes_it() {
    check(|| {
        let pool = pool(1, 8);
        let (mut writer, reader) = Pool::open(&pool, 0, 0).unwrap();
        let woken = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(Signal::new({
            let woken = Arc::clone(&woken);
            move || woken.store(true, Ordering::Relaxed)
        }));
        let recorder = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || {
                write(&mut writer, 1);
                signal.notify(WakeOn::Batch);
            })
        };
        signal.wake_on(WakeOn::Batch);
        let seen = reader.spans_waiting() > 0;
        recorder.join().unwrap();
        assert!(seen || woken.load(Ordering::Relaxed));
    });
}
