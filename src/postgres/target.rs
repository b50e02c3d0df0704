//! Which server to talk to, as whom.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::PostgresError;

/// Longest wait for a TCP connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server and a login. `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct Target {
    pub(super) config: tokio_postgres::Config,
    /// Whether the server's certificate is verified, and against what.
    pub(super) verify: Verify,
}

/// How far the server's certificate is trusted. The modes are libpq's: `prefer` and `require` encrypt only,
/// `verify-ca` and `verify-full` check certificate and host name; so does any mode given a root certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    None,
    SystemRoots,
    RootFile(PathBuf),
}

/// Variable names of one convention, in the order host, port, user, password, database.
type Names = [&'static str; 5];
const LIBPQ: Names = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"];
const PLAIN: Names = ["DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME"];

/// Where variables come from: `NAME`, or the content of the file that `NAME_FILE` names.
struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Target {
    /// The URL of the pipeline file, else the `PG*` variables, else `DB_HOST DB_PORT DB_USER DB_PASSWORD
    /// DB_NAME`. Each variable may also be given as `NAME_FILE`. A URL without a password takes `PGPASSWORD`.
    pub fn resolve(
        url: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Target, PostgresError> {
        let environment = Environment { variable, read };
        let mut target = match url.filter(|url| !url.trim().is_empty()) {
            Some(url) => from_url(url.trim(), &environment)?,
            None if given(&LIBPQ, &environment)? => from_names(&LIBPQ, &environment)?,
            None if given(&PLAIN, &environment)? => from_names(&PLAIN, &environment)?,
            None => {
                return Err(PostgresError::Settings(
                    "no server: give connections.postgres.url (DATABASE_URL), PGHOST or DB_HOST".to_owned(),
                ));
            }
        };
        let config = &mut target.config;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(8));
        }
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        Ok(target)
    }

    /// `resolve` with this process's environment and files.
    pub fn from_environment(url: Option<&str>) -> Result<Target, PostgresError> {
        Target::resolve(url, &|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path))
    }
}

impl Environment<'_> {
    /// The value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Result<Option<String>, PostgresError> {
        if let Some(value) = (self.variable)(name).filter(|value| !value.is_empty()) {
            return Ok(Some(value));
        }
        let Some(path) = (self.variable)(&format!("{name}_FILE")).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        match (self.read)(Path::new(&path)) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(PostgresError::Settings(format!("{name}_FILE: cannot read {path}: {error}"))),
        }
    }
}

fn given(names: &Names, environment: &Environment<'_>) -> Result<bool, PostgresError> {
    for name in names {
        if environment.get(name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn from_names(names: &Names, environment: &Environment<'_>) -> Result<Target, PostgresError> {
    let [host, port, user, password, database] = names;
    let mut config = tokio_postgres::Config::new();
    config.host(environment.get(host)?.as_deref().unwrap_or("localhost"));
    if let Some(text) = environment.get(port)? {
        let number = text
            .parse()
            .map_err(|_| PostgresError::Settings(format!("{port} is {text:?}, not a port number")))?;
        config.port(number);
    }
    let name = match environment.get(user)? {
        Some(name) => name,
        None => environment
            .get("USER")?
            .ok_or_else(|| PostgresError::Settings(format!("no user: give {user}")))?,
    };
    config.dbname(environment.get(database)?.as_deref().unwrap_or(&name));
    config.user(name);
    if let Some(secret) = environment.get(password)? {
        config.password(secret);
    }
    if let Some(options) = environment.get("PGOPTIONS")? {
        config.options(options);
    }
    finish(config, None, None, environment)
}

fn from_url(url: &str, environment: &Environment<'_>) -> Result<Target, PostgresError> {
    let (url, mode, root) = take_tls(url);
    let mut config: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        PostgresError::Settings(format!("connections.postgres.url: {error}{cause}"))
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    if config.get_password().is_none()
        && let Some(secret) = environment.get("PGPASSWORD")?
    {
        config.password(secret);
    }
    finish(config, mode, root, environment)
}

/// Takes `sslmode` and `sslrootcert` out of a URL: the client library knows neither `verify-full` nor files.
fn take_tls(url: &str) -> (String, Option<String>, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None, None);
    };
    let (mut mode, mut root, mut rest) = (None, None, Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => root = Some(value.replace("%2F", "/").replace("%2f", "/")),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (url, mode, root)
}

fn finish(
    mut config: tokio_postgres::Config,
    mode: Option<String>,
    root: Option<String>,
    environment: &Environment<'_>,
) -> Result<Target, PostgresError> {
    let mode = match mode {
        Some(mode) => Some(mode),
        None => environment.get("PGSSLMODE")?,
    };
    let root = match root {
        Some(root) => Some(root),
        None => environment.get("PGSSLROOTCERT")?,
    };
    let (ssl, verify) = match mode.as_deref() {
        Some("disable" | "allow") => (SslMode::Disable, false),
        None | Some("prefer") => (SslMode::Prefer, false),
        Some("require") => (SslMode::Require, false),
        Some("verify-ca" | "verify-full") => (SslMode::Require, true),
        Some(other) => {
            return Err(PostgresError::Settings(format!(
                "sslmode is {other:?}; known are disable, allow, prefer, require, verify-ca, verify-full"
            )));
        }
    };
    config.ssl_mode(ssl);
    let verify = match root.as_deref() {
        Some("system") => Verify::SystemRoots,
        Some(path) => Verify::RootFile(PathBuf::from(path)),
        None if verify => Verify::SystemRoots,
        None => Verify::None,
    };
    Ok(Target { config, verify })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let mut hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        if hosts.is_empty() {
            hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        }
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config.get_user().unwrap_or_default();
        let database = config.get_dbname().unwrap_or(user);
        write!(f, "postgres://{user}@{}:{port}/{database}", hosts.join(","))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, PostgresError> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Target::resolve(url, &variable, &|path| match path.to_str() {
            Some("/run/secret") => Ok("from file\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn url_goes_before_libpq_before_plain_names() {
        let all = [("PGHOST", "pg"), ("PGUSER", "p"), ("DB_HOST", "db"), ("DB_USER", "d"), ("DB_NAME", "n")];
        let url = resolve(Some("postgres://u:s@h:25432/d"), &all).unwrap();
        assert_eq!(url.to_string(), "postgres://u@h:25432/d");
        assert_eq!(resolve(Some(""), &all).unwrap().to_string(), "postgres://p@pg:5432/p");
        assert_eq!(resolve(None, &all[2..]).unwrap().to_string(), "postgres://d@db:5432/n");
        assert!(matches!(resolve(None, &[]), Err(PostgresError::Settings(_))));
    }

    #[test]
    fn password_comes_from_a_file_and_is_never_shown() {
        let target = resolve(None, &[("DB_USER", "u"), ("DB_PASSWORD_FILE", "/run/secret")]).unwrap();
        assert_eq!(target.config.get_password(), Some(&b"from file"[..]));
        assert!(!format!("{target} {target:?}").contains("from file"));
        let missing = resolve(None, &[("DB_USER", "u"), ("DB_PASSWORD_FILE", "/nowhere")]).unwrap_err();
        assert!(missing.to_string().contains("/nowhere"), "{missing}");
        let url = resolve(Some("postgres://u@h/d"), &[("PGPASSWORD", "x")]).unwrap();
        assert_eq!(url.config.get_password(), Some(&b"x"[..]));
    }

    #[test]
    fn tls_modes_are_those_of_libpq() {
        for (query, mode, verify) in [
            ("", SslMode::Prefer, Verify::None),
            ("?sslmode=disable", SslMode::Disable, Verify::None),
            ("?sslmode=require&connect_timeout=3", SslMode::Require, Verify::None),
            ("?sslmode=verify-full", SslMode::Require, Verify::SystemRoots),
            ("?sslmode=require&sslrootcert=%2Fca.pem", SslMode::Require, Verify::RootFile("/ca.pem".into())),
        ] {
            let target = resolve(Some(&format!("postgres://u@h/d{query}")), &[]).unwrap();
            assert_eq!((target.config.get_ssl_mode(), target.verify), (mode, verify), "{query}");
        }
        assert!(resolve(Some("postgres://u@h/d?sslmode=maybe"), &[]).is_err());
        let variable = resolve(None, &[("PGUSER", "u"), ("PGSSLMODE", "require")]).unwrap();
        assert_eq!(variable.config.get_ssl_mode(), SslMode::Require);
    }
}
