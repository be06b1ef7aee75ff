//! The two halves of a container's root: what its image has and what it wrote.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Where the sandbox says which descriptors they are: `IMAGE,WRITTEN,WHOLE`.
pub(crate) const VARIABLE: &str = "SOCKERLESS_LAYERS";

/// Both halves, as folders. A sandbox whose root is writable hands them over; elsewhere
/// nobody can tell them apart.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The image's files, as if nothing had been written.
    pub(crate) image: OwnedFd,
    /// The upper folder of the root's overlay: what was written, with a device 0,0 in the
    /// place of what was removed (see overlayfs's documentation, "whiteouts").
    pub(crate) written: OwnedFd,
    /// Both together, without anything that is mounted there.
    pub(crate) whole: OwnedFd,
}

impl Layers {
    /// Reads the variable. Called once: it takes the descriptors over.
    ///
    /// # Errors
    /// When it cannot be understood; the variable's text.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let Some(text) = get(VARIABLE) else {
            return Ok(None);
        };
        let numbers: Vec<RawFd> = text
            .split(',')
            .filter_map(|text| text.parse().ok().filter(|fd| *fd > 2))
            .collect();
        match numbers.as_slice() {
            [image, written, whole] if image != written && written != whole && whole != image => {
                // SAFETY: whoever set the variable made these descriptors for this process
                // alone, and nothing else in it knows of them.
                let own = |fd: &RawFd| unsafe { OwnedFd::from_raw_fd(*fd) };
                Ok(Some(Self {
                    image: own(image),
                    written: own(written),
                    whole: own(whole),
                }))
            }
            _ => Err(format!("{VARIABLE}={text:?} is not IMAGE,WRITTEN,WHOLE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_two_descriptors_is_refused() {
        assert!(matches!(Layers::read(|_| None), Ok(None)));
        for text in ["", "1,2,3", "7,8", "7,8,7", "a,9,10"] {
            assert!(Layers::read(|_| Some(text.to_owned())).is_err(), "{text}");
        }
    }
}
