//! Strategies for random behaviour of a server.

use proptest::prelude::*;

use crate::script::{Script, Step, response};

/// Generates bytes that are mostly valid responses.
pub fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        4 => prop::sample::select(vec![200_u16, 202, 204]),
        4 => prop::sample::select(vec![429_u16, 502, 503, 504]),
        2 => prop::sample::select(vec![100_u16, 103, 301, 304, 307, 308, 400, 404, 413, 500]),
    ];
    let header = prop::sample::select(vec![
        "",
        "Connection: close\r\n",
        "Retry-After: 0\r\n",
        "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Location: /v1/traces\r\n",
        "Content-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked\r\n",
    ]);
    let body = prop::collection::vec(any::<u8>(), 0..20);
    let answer =
        (status, header, body).prop_map(|(status, header, body)| response(status, header, &body));
    prop_oneof![
        10 => answer.clone(),
        3 => (answer.clone(), any::<prop::sample::Index>()).prop_map(|(mut answer, at)| {
            answer.truncate(at.index(answer.len()));
            answer
        }),
        3 => (answer, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut answer, at, byte)| {
            let at = at.index(answer.len());
            answer[at] = byte;
            answer
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::ReadRequest),
        2 => Just(Step::ReadHead),
        2 => (0..600_usize).prop_map(Step::Read),
        6 => any_answer().prop_map(Step::Write),
        3 => (any_answer(), 1..9_usize).prop_map(|(answer, piece)| Step::Trickle(answer, piece)),
        1 => Just(Step::Stall),
        1 => Just(Step::Drain),
        2 => Just(Step::Reset),
    ]
}

/// Generates a server's behaviour on one connection.
pub fn any_script() -> impl Strategy<Value = Script> {
    prop::collection::vec(any_step(), 0..7)
}
