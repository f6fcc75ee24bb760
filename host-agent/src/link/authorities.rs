//! Whose certificates are trusted where no key is pinned.
//!
//! The system's authorities; those in the file of `SSL_CERT_FILE` in their place, as everywhere; and those in the file of
//! `CODEX_CA_CERTIFICATE` beside them, as Codex takes it. Files are read when a certificate needs them, and so one that
//! was mended counts at the next try. None of them makes a relay the one that was paired with: that is its identity key.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reachback_proto::words::quote;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths, load_native_certs};

/// Names what is trusted in place of the system's authorities.
const INSTEAD: &str = "SSL_CERT_FILE";
/// A folder of such files.
const FOLDER: &str = "SSL_CERT_DIR";
/// Names what is trusted beside them.
const BESIDE: &str = "CODEX_CA_CERTIFICATE";

/// A file with authorities can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// It can't be read.
    #[error("{variable} names {}, which can't be read ({source}): correct the path, or unset the variable", quote(path.display()))]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing in it.
    #[error("{variable} names {}, and there is no certificate in it: it has to be a PEM file with -----BEGIN CERTIFICATE-----", quote(path.display()))]
    Empty {
        /// The variable that names it.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// The system's own library does not take them.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where authorities are looked for.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    /// File and folder in place of the system's.
    instead: Option<(PathBuf, Option<PathBuf>)>,
    beside: Option<PathBuf>,
}

impl Authorities {
    /// Those that these variables of the environment name. Empty ones count as none.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { instead: path(INSTEAD).map(|file| (file, path(FOLDER))), beside: path(BESIDE) }
    }

    /// All of them.
    pub(crate) fn roots(&self) -> Result<RootCertStore, AuthorityError> {
        let mut roots = RootCertStore::empty();
        match &self.instead {
            Some((file, folder)) => {
                add(&mut roots, INSTEAD, file, load_certs_from_paths(Some(file), None))?;
                let folder = folder.as_deref().map(|folder| load_certs_from_paths(None, Some(folder)));
                roots.add_parsable_certificates(folder.unwrap_or_default().certs);
            }
            // The library looks for `SSL_CERT_DIR` itself.
            None => drop(roots.add_parsable_certificates(load_native_certs().certs)),
        }
        if let Some(file) = &self.beside {
            add(&mut roots, BESIDE, file, load_certs_from_paths(Some(file), None))?;
        }
        Ok(roots)
    }

    /// A client of whoever has a certificate of theirs.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, AuthorityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(self.roots()?).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn add(
    roots: &mut RootCertStore,
    variable: &'static str,
    path: &Path,
    read: CertificateResult,
) -> Result<(), AuthorityError> {
    if let Some(error) = read.errors.into_iter().next() {
        // Its own words have the path in them, too.
        let source = match error.kind {
            ErrorKind::Io { inner, .. } => inner.into(),
            _ => error.into(),
        };
        return Err(AuthorityError::Unreadable { variable, path: path.into(), source });
    }
    match roots.add_parsable_certificates(read.certs) {
        (0, _) => Err(AuthorityError::Empty { variable, path: path.into() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn authorities(environment: &[(&str, &Path)]) -> Authorities {
        Authorities::of(|name| environment.iter().find(|(known, _)| *known == name).map(|(_, path)| (*path).into()))
    }

    fn certificate() -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["authority.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }

    #[test]
    fn one_file_is_in_place_of_the_systems_authorities_and_the_other_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let (two, one) = (folder.path().join("two"), folder.path().join("one"));
        fs::write(&two, format!("Of our own:\n{}and\n{}", certificate(), certificate())).unwrap();
        fs::write(&one, certificate()).unwrap();
        let count = |environment: &[(&str, &Path)]| authorities(environment).roots().unwrap().len();
        let system = count(&[]);
        assert_eq!(count(&[("SSL_CERT_FILE", &two)]), 2);
        assert_eq!(count(&[("CODEX_CA_CERTIFICATE", &two)]), system + 2);
        assert_eq!(count(&[("SSL_CERT_FILE", &two), ("CODEX_CA_CERTIFICATE", &one)]), 3);
        assert_eq!(count(&[("SSL_CERT_FILE", Path::new("")), ("CODEX_CA_CERTIFICATE", Path::new(""))]), system);
        let more = folder.path().join("more");
        fs::create_dir(&more).unwrap();
        fs::copy(&one, more.join("0")).unwrap();
        assert_eq!(count(&[("SSL_CERT_FILE", &two), ("SSL_CERT_DIR", &more)]), 3);
    }

    #[test]
    fn a_file_that_has_none_is_an_error_that_names_it_and_its_variable() {
        let folder = tempfile::tempdir().unwrap();
        let (none, nowhere) = (folder.path().join("none"), folder.path().join("nowhere"));
        let broken = folder.path().join("broken");
        fs::write(&none, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for variable in ["SSL_CERT_FILE", "CODEX_CA_CERTIFICATE"] {
            let told = |path: &Path| authorities(&[(variable, path)]).roots().unwrap_err().to_string();
            for (path, why) in
                [(&none, "no certificate in it"), (&broken, "no certificate in it"), (&nowhere, "can't be read (")]
            {
                let told = told(path);
                let names = format!("{variable} names {}", quote(path.display()));
                assert!(told.starts_with(&names) && told.contains(why), "{told}");
            }
        }
    }
}
