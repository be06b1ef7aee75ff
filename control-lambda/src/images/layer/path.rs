//! Names of entries, made safe.

use super::LayerError;

/// A path within a layer: components without `.`, `..`, `/` and NUL. No
/// components at all name the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Reads an entry's name, which may be absolute and may contain `.` and
    /// `..`, as long as it stays inside.
    ///
    /// # Errors
    /// [`LayerError::Outside`] and [`LayerError::Name`].
    pub fn new(name: &[u8]) -> Result<Self, LayerError> {
        Self::default().join(name).map_err(|why| match why {
            Unclean::Outside => LayerError::Outside(shown(name)),
            Unclean::Name => LayerError::Name(shown(name)),
        })
    }

    /// Where a symbolic link at this path leads, by its text alone; an absolute
    /// target counts from the root.
    ///
    /// # Errors
    /// [`LayerError::Outside`] and [`LayerError::Name`].
    pub fn symlink_target(&self, target: &[u8]) -> Result<Self, LayerError> {
        let from = if target.first() == Some(&b'/') {
            Self::default()
        } else {
            self.parent()
        };
        from.join(target).map_err(|why| match why {
            Unclean::Outside => LayerError::Outside(shown(target)),
            Unclean::Name => LayerError::Name(shown(target)),
        })
    }

    /// The components with `/` between them; empty for the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that this is in; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => Self(self.0[..slash].to_vec()),
            None => Self::default(),
        }
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// This path with another last component, which is checked.
    ///
    /// # Errors
    /// [`LayerError::Name`].
    pub fn with_file_name(&self, name: &[u8]) -> Result<Self, LayerError> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(LayerError::Name(shown(&self.0)));
        }
        self.parent()
            .join(name)
            .map_err(|_| LayerError::Name(shown(&self.0)))
    }

    fn join(mut self, name: &[u8]) -> Result<Self, Unclean> {
        if name.contains(&0) {
            return Err(Unclean::Name);
        }
        for component in name.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." if self.is_root() => return Err(Unclean::Outside),
                b".." => self = self.parent(),
                _ => {
                    if !self.is_root() {
                        self.0.push(b'/');
                    }
                    self.0.extend_from_slice(component);
                }
            }
        }
        Ok(self)
    }
}

impl std::fmt::Display for LayerPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

enum Unclean {
    Outside,
    Name,
}

/// A name for people, of bounded length.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let clean = |name: &str| LayerPath::new(name.as_bytes()).map(|p| p.to_string());
        assert_eq!(clean("./a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(clean("/etc/passwd").unwrap(), "etc/passwd");
        assert_eq!(clean("a/../b").unwrap(), "b");
        assert_eq!(clean("./").unwrap(), "");
        for bad in ["../x", "..", "a/../../x", "/../x", "a/b/../../../c"] {
            assert!(matches!(clean(bad), Err(LayerError::Outside(_))), "{bad}");
        }
        assert!(matches!(clean("a\0b"), Err(LayerError::Name(_))));
    }

    #[test]
    fn links_stay_inside() {
        let link = LayerPath::new(b"usr/bin/x").unwrap();
        let to = |target: &str| {
            link.symlink_target(target.as_bytes())
                .map(|p| p.to_string())
        };
        assert_eq!(to("../lib/y").unwrap(), "usr/lib/y");
        assert_eq!(to("/bin/sh").unwrap(), "bin/sh");
        assert_eq!(to("y").unwrap(), "usr/bin/y");
        assert!(matches!(to("../../../y"), Err(LayerError::Outside(_))));
        assert!(matches!(to("/../y"), Err(LayerError::Outside(_))));
    }

    #[test]
    fn the_last_component_is_replaced_by_one_component_only() {
        let path = LayerPath::new(b"a/.wh.b").unwrap();
        assert_eq!(path.with_file_name(b"b").unwrap().to_string(), "a/b");
        for bad in [&b""[..], b".", b"..", b"x/y", b"x\0"] {
            assert!(path.with_file_name(bad).is_err());
        }
    }
}
