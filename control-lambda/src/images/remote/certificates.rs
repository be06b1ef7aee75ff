//! Certificates of registries in folders, as the Docker Engine has them in
//! `/etc/docker/certs.d`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HostCertificates, TlsMaterial};

/// A folder with a folder for each registry: `<host>[:<port>]/*.crt` are authorities,
/// `*.cert` with `*.key` of the same name the client's own.
#[derive(Debug, Clone)]
pub struct CertificateFolders {
    root: PathBuf,
}

impl CertificateFolders {
    /// In this folder, which need not be there.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
}

impl HostCertificates for CertificateFolders {
    fn of(&self, host: &str) -> Result<TlsMaterial, String> {
        // The name of a registry has no slash, and is no way out.
        if host.contains('/') || host.starts_with('.') {
            return Ok(TlsMaterial::default());
        }
        let folder = self.root.join(host);
        read(&folder).map_err(|error| format!("{}: {error}", folder.display()))
    }
}

fn read(folder: &Path) -> io::Result<TlsMaterial> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(TlsMaterial::default());
        }
        Err(e) => return Err(e),
    };
    let mut material = TlsMaterial::default();
    for entry in entries {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => material.authorities.push(fs::read(&path)?),
            Some("cert") => {
                let key = fs::read(path.with_extension("key"))?;
                material.client = Some((fs::read(&path)?, key));
            }
            _ => {}
        }
    }
    Ok(material)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let folders = CertificateFolders::new(folder.path());
        assert!(folders.of("a:5000").unwrap() == TlsMaterial::default());
        let host = folder.path().join("a:5000");
        fs::create_dir(&host).unwrap();
        for name in ["ca.crt", "client.cert", "client.key", "other"] {
            fs::write(host.join(name), name).unwrap();
        }
        let material = folders.of("a:5000").unwrap();
        assert_eq!(material.authorities, [b"ca.crt".to_vec()]);
        let own = (b"client.cert".to_vec(), b"client.key".to_vec());
        assert!(material.client == Some(own));
        fs::remove_file(host.join("client.key")).unwrap();
        assert!(
            folders
                .of("a:5000")
                .is_err_and(|why| why.contains("a:5000"))
        );
        assert!(folders.of("../a").unwrap() == TlsMaterial::default());
    }
}
