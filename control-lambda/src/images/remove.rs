//! `docker rmi`: what is untagged, what is deleted, and what stands against it.

use std::collections::HashSet;

use sockerless_shared::ids::{ContainerId, Namespace};
use thiserror::Error;

use super::catalog::{CatalogError, ImageRecord};
use super::digest::{Digest, chain_ids};
use super::reference::{Reference, ReferenceError};
use super::store::Images;

/// A container that was made of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Which.
    pub container: ContainerId,
    /// Whether it runs (or is paused).
    pub running: bool,
}

/// Why an image was not removed. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoveError {
    /// Names, records.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The last name of an image with containers.
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {image}"
    )]
    LastName {
        /// As the client said it.
        name: String,
        /// Short id.
        container: String,
        /// Short id.
        image: String,
    },
    /// A running container.
    #[error(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {container}"
    )]
    Running {
        /// Short id.
        image: String,
        /// Short id.
        container: String,
    },
    /// Names in more than one repository, or more than one tag.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is referenced in multiple repositories"
    )]
    SeveralNames {
        /// Short id.
        image: String,
    },
    /// A container that does not run.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {container}"
    )]
    Stopped {
        /// Short id.
        image: String,
        /// Short id.
        container: String,
    },
}

impl From<ReferenceError> for RemoveError {
    fn from(error: ReferenceError) -> Self {
        Self::Catalog(error.into())
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, in its familiar form.
    Untagged(String),
    /// An image or a layer.
    Deleted(Digest),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    untag: Vec<Reference>,
    delete: bool,
}

impl Images {
    /// Removes a name, or an image with its names. `users` tells the containers
    /// that were made of an image; when there are any and the image goes all the
    /// same, what it consists of stays until the last of them is gone.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove(
        &self,
        namespace: &Namespace,
        name: &str,
        force: bool,
        users: impl Fn(&Digest) -> Vec<User>,
    ) -> Result<Vec<Removed>, RemoveError> {
        let now = self.environment.now();
        let image = self.catalog.resolve(namespace, name, now).await?;
        let users = users(&image.id);
        let plan = plan(name, &image.id, &references(&image), &users, force)?;
        let mut removed = Vec::new();
        for reference in &plan.untag {
            self.catalog
                .untag(namespace, &image.id, &reference.to_string(), now)
                .await?;
            removed.push(Removed::Untagged(reference.familiar()));
        }
        if !plan.delete {
            return Ok(removed);
        }
        let keep = !users.is_empty();
        // Somebody may have named it meanwhile; then it stays.
        if self.catalog.remove(namespace, &image.id, keep, now).await? {
            removed.push(Removed::Deleted(image.id));
            let contents = self.catalog.contents(namespace, now).await?;
            let needed: HashSet<Digest> = contents
                .iter()
                .flat_map(|(_, content)| chain_ids(&content.layers))
                .collect();
            let layers = chain_ids(&image.layers);
            let gone = layers.into_iter().rev().filter(|l| !needed.contains(l));
            removed.extend(gone.map(Removed::Deleted));
            self.tidy().await;
        }
        Ok(removed)
    }

    /// Gives up what was kept for containers of images that are removed, as far
    /// as `is_used` says that there are none any more.
    ///
    /// # Errors
    /// [`CatalogError::Table`].
    pub async fn release_unused(
        &self,
        namespace: &Namespace,
        is_used: impl Fn(&Digest) -> bool,
    ) -> Result<(), CatalogError> {
        let now = self.environment.now();
        for (id, _) in self.catalog.contents(namespace, now).await? {
            if !is_used(&id) {
                // Only of an image that is removed; others keep what they have.
                self.catalog.release(namespace, &id, now).await?;
            }
        }
        Ok(())
    }
}

/// An image's names, in the order of their full forms. One that cannot be read
/// any more has no effect.
#[must_use]
pub fn references(image: &ImageRecord) -> Vec<Reference> {
    image
        .references
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .collect()
}

fn plan(
    name: &str,
    id: &Digest,
    references: &[Reference],
    users: &[User],
    force: bool,
) -> Result<Plan, RemoveError> {
    let mut untag = Vec::new();
    let by_name = !is_id_prefix(id, name);
    if by_name {
        if let Some(user) = users.first()
            && !force
            && is_single(references)
        {
            return Err(RemoveError::LastName {
                name: name.to_owned(),
                container: user.container.short().to_owned(),
                image: id.short(),
            });
        }
        let named = Reference::parse(name)?.key();
        let others = || references.iter().filter(|r| **r != named);
        untag.push(named.clone());
        let is_last_tag = !others().any(|r| r.tag().is_some() && r.name() == named.name());
        if named.digest().is_none() && is_last_tag {
            // Digests of a repository do not outlive its tags.
            untag.extend(others().filter(|r| r.name() == named.name()).cloned());
        }
        if references.iter().any(|r| !untag.contains(r)) {
            return Ok(Plan {
                untag,
                delete: false,
            });
        }
    } else if is_single(references) {
        conflict(id, &[], users, force)?;
        untag.extend_from_slice(references);
    }
    let left: Vec<_> = references
        .iter()
        .filter(|r| !untag.contains(r))
        .cloned()
        .collect();
    match conflict(id, &left, users, force) {
        Ok(()) => {}
        // The name is gone, and the image stays for those who use it.
        Err(_) if by_name => {
            return Ok(Plan {
                untag,
                delete: false,
            });
        }
        Err(conflict) => return Err(conflict),
    }
    untag.extend(left);
    Ok(Plan {
        untag,
        delete: true,
    })
}

fn conflict(
    id: &Digest,
    references: &[Reference],
    users: &[User],
    force: bool,
) -> Result<(), RemoveError> {
    let image = id.short();
    if let Some(user) = users.iter().find(|user| user.running) {
        let container = user.container.short().to_owned();
        return Err(RemoveError::Running { image, container });
    }
    if force {
        return Ok(());
    }
    if !references.is_empty() {
        return Err(RemoveError::SeveralNames { image });
    }
    match users.first() {
        Some(user) => {
            let container = user.container.short().to_owned();
            Err(RemoveError::Stopped { image, container })
        }
        None => Ok(()),
    }
}

/// Whether all names are of one repository, with at most one tag.
fn is_single(references: &[Reference]) -> bool {
    let [first, ..] = references else {
        return false;
    };
    let tags = references.iter().filter(|r| r.digest().is_none()).count();
    tags <= 1 && references.iter().all(|r| r.name() == first.name())
}

fn is_id_prefix(id: &Digest, name: &str) -> bool {
    id.to_string().starts_with(name) || id.hex().starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        name: &str,
        names: &[&str],
        users: &[bool],
        force: bool,
    ) -> Result<(Vec<String>, bool), String> {
        let id = Digest::of(b"image");
        let names: Vec<_> = names
            .iter()
            .map(|n| Reference::parse(n).unwrap().key())
            .collect();
        let users: Vec<_> = users
            .iter()
            .map(|running| User {
                container: ContainerId::from_random([7; 32]),
                running: *running,
            })
            .collect();
        let name = if name == "id" {
            id.short()
        } else {
            name.to_owned()
        };
        plan(&name, &id, &names, &users, force)
            .map(|plan| {
                let names = plan.untag.iter().map(Reference::familiar).collect();
                (names, plan.delete)
            })
            .map_err(|e| e.to_string().replace(&id.short(), "ID"))
    }

    fn done(untagged: &[&str], deleted: bool) -> Result<(Vec<String>, bool), String> {
        Ok((untagged.iter().map(ToString::to_string).collect(), deleted))
    }

    fn refused(text: &str) -> Result<(Vec<String>, bool), String> {
        Err(format!("conflict: unable to {text}"))
    }

    const D: &str = "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn by_name() {
        assert_eq!(check("x", &["x"], &[], false), done(&["x:latest"], true));
        assert_eq!(
            check("x:1", &["x:1", "x:2"], &[], false),
            done(&["x:1"], false)
        );
        assert_eq!(
            check("x:1", &["x:1", D], &[], false),
            done(&["x:1", D], true)
        );
        assert_eq!(
            check("x:1", &["x:1", "y:1", D], &[], false),
            done(&["x:1", D], false)
        );
        assert_eq!(
            check("x:1", &["x:1", "x:2", D], &[], false),
            done(&["x:1"], false)
        );
        assert_eq!(check(D, &["x:1", D], &[], false), done(&[D], false));
        assert_eq!(check(D, &[D], &[], false), done(&[D], true));
    }

    #[test]
    fn by_name_with_containers() {
        for running in [true, false] {
            assert_eq!(
                check("x", &["x"], &[running], false),
                refused(
                    "remove repository reference \"x\" (must force) - container 070707070707 is using its referenced image ID"
                )
            );
            assert_eq!(
                check("x", &["x", "y"], &[running], false),
                done(&["x:latest"], false)
            );
        }
        assert_eq!(
            check("x", &["x"], &[true], true),
            done(&["x:latest"], false)
        );
        assert_eq!(
            check("x", &["x"], &[false], true),
            done(&["x:latest"], true)
        );
    }

    #[test]
    fn by_id() {
        assert_eq!(check("id", &[], &[], false), done(&[], true));
        assert_eq!(
            check("id", &["x:1", D], &[], false),
            done(&["x:1", D], true)
        );
        assert_eq!(
            check("id", &["x:1", "x:2"], &[], false),
            refused("delete ID (must be forced) - image is referenced in multiple repositories")
        );
        assert_eq!(
            check("id", &["x:1", "y:1"], &[], true),
            done(&["x:1", "y:1"], true)
        );
    }

    #[test]
    fn by_id_with_containers() {
        let running = refused(
            "delete ID (cannot be forced) - image is being used by running container 070707070707",
        );
        for names in [&["x"][..], &["x", "y"], &[]] {
            assert_eq!(check("id", names, &[false, true], false), running);
            assert_eq!(check("id", names, &[false, true], true), running);
        }
        assert_eq!(
            check("id", &["x"], &[false], false),
            refused(
                "delete ID (must be forced) - image is being used by stopped container 070707070707"
            )
        );
        assert_eq!(
            check("id", &["x"], &[false], true),
            done(&["x:latest"], true)
        );
    }
}
