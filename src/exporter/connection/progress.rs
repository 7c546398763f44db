//! The result of advancing a state.

/// A state that goes on, or its result.
pub(super) enum Progress<S, T> {
    Pending(S),
    Done(T),
}
