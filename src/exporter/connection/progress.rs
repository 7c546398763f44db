//! The result of advancing a state.

/// A state that continues, or its result.
pub(super) enum Progress<S, T> {
    Pending(S),
    Done(T),
}
