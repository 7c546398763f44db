//! The redirects that one request has followed.

/// A row of redirects, from the endpoint's own target on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RedirectChain {
    followed: u32,
    permanent: u32,
}

impl RedirectChain {
    pub(super) fn push(&mut self, is_permanent: bool) {
        self.followed += 1;
        self.permanent += u32::from(is_permanent);
    }

    /// Returns the number of redirects.
    pub(super) fn followed(&self) -> u32 {
        self.followed
    }

    /// Returns whether there was a redirect, and none that was temporary.
    pub(super) fn has_moved(&self) -> bool {
        self.followed > 0 && self.permanent == self.followed
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_permanent_redirects_move_a_target() {
        for (redirects, has_moved) in [
            (&[][..], false),
            (&[true], true),
            (&[true, true], true),
            (&[false, true], false),
            (&[true, false], false),
        ] {
            let mut chain = RedirectChain::default();
            redirects.iter().for_each(|redirect| chain.push(*redirect));
            assert_eq!(chain.has_moved(), has_moved, "{redirects:?}");
            assert_eq!(chain.followed() as usize, redirects.len());
        }
    }
}
