//! Images that ECR's pull-through cache fetches, in repositories below the deployment's own
//! (Amazon ECR User Guide, "Sync an upstream registry").

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecr::Client as Ecr;

use super::credentials::Credentials as Token;
use super::failed;
use crate::images::remote::{Credentials, OwnImages};
use crate::ports::registry::RegistryError;

/// Below which names the caches are: those of the rules in `terraform/registry.tf`.
const CACHES: [&str; 3] = ["ecr-public", "k8s", "quay"];

/// Those that are cached for this deployment. Whoever may use it may pull them.
pub struct CachedImages {
    ecr: Ecr,
    host: String,
    name: String,
    token: Arc<Token>,
}

impl fmt::Debug for CachedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedImages({}/{})", self.host, self.name)
    }
}

impl CachedImages {
    pub(super) fn new(ecr: Ecr, token: Arc<Token>, host: &str, name: &str) -> Self {
        Self {
            ecr,
            token,
            host: host.to_owned(),
            name: name.to_owned(),
        }
    }

    fn has(&self, repository: &str) -> bool {
        repository
            .strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix('/')?.split_once('/'))
            .is_some_and(|(cache, path)| CACHES.contains(&cache) && !path.is_empty())
    }

    /// Deletes the repositories that ECR has made for the caches, with their images.
    ///
    /// # Errors
    /// When ECR refuses.
    pub async fn delete(&self) -> Result<(), RegistryError> {
        let mut pages = self.ecr.describe_repositories().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("list repositories", &error))?;
            let names = page.repositories.unwrap_or_default();
            for name in names.into_iter().filter_map(|found| found.repository_name) {
                if self.has(&name) {
                    self.ecr
                        .delete_repository()
                        .repository_name(&name)
                        .force(true)
                        .send()
                        .await
                        .map_err(|error| failed("delete a repository", &error))?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl OwnImages for CachedImages {
    async fn credentials(&self, host: &str, path: &str) -> Result<Option<Credentials>, String> {
        if host != self.host || !self.has(path) {
            return Ok(None);
        }
        let token = self.token.text().await.map_err(|error| error.to_string())?;
        let credentials = Credentials {
            auth: token,
            ..Credentials::default()
        };
        Ok(Some(credentials.complete()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_caches_have_is_everybodys() {
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(aws_sdk_ecr::config::BehaviorVersion::latest())
            .build();
        let ecr = Ecr::from_conf(config);
        let token = Arc::new(Token::new(ecr.clone()));
        let images = CachedImages::new(ecr, token, "host", "skl");
        for (repository, has) in [
            ("skl/ecr-public/docker/library/busybox", true),
            ("skl/k8s/pause", true),
            ("skl/quay/a/b", true),
            ("skl", false),
            ("skl/", false),
            ("skl/mine/busybox", false),
            ("skl/ecr-public", false),
            ("skl/ecr-public/", false),
            ("sklx/ecr-public/busybox", false),
            ("other/skl/ecr-public/busybox", false),
        ] {
            assert_eq!(images.has(repository), has, "{repository}");
        }
    }
}
