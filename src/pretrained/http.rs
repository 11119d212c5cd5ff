//! GET, as the Hugging Face hub needs it: redirects that lose neither what the hub says of a file nor the token to
//! strangers, and the rest of a file from a given byte on.

use std::time::Duration;

use ureq::http::{Response, Uri};

use super::hub::HubSettings;
use crate::error::{Error, Result};

/// The hub itself, a renamed model, a content server, its mirror: no honest chain is longer.
const MOST_REDIRECTS: usize = 10;
/// A connection that gives nothing for that long is dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a hub.
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    hub: &'a HubSettings,
}

/// A body that is about to come.
pub(super) struct Reply {
    /// The digest of the whole file that the hub promises, without quotes.
    pub(super) etag: Option<String>,
    /// Bytes of the whole file.
    pub(super) total: Option<u64>,
    /// The byte that the body begins with.
    pub(super) from: u64,
    pub(super) body: ureq::Body,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a HubSettings) -> Self {
        let proxy = if hub.environment_proxy { ureq::Proxy::try_from_env() } else { None };
        let config = ureq::Agent::config_builder()
            .proxy(proxy)
            .user_agent(concat!("regrow/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        Self { agent: config.new_agent(), hub }
    }

    /// Asks for a file from byte `from` on. The server may start at 0 all the same.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Reply> {
        let failed = |message: String| Error::Download { url: url.to_string(), message };
        let hub: Uri =
            self.hub.endpoint.parse().map_err(|error| {
                failed(format!("HF_ENDPOINT {} is no address ({error})", self.hub.endpoint))
            })?;
        let (mut at, mut etag, mut total) = (url.to_string(), None, None);
        for _ in 0..=MOST_REDIRECTS {
            let uri: Uri = at.parse().map_err(|error| failed(format!("{at} is no address ({error})")))?;
            if hub.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
                return Err(failed(format!("the hub leads to {at}, which is not encrypted")));
            }
            // Another host must not see the token, and names files by digests of its own.
            let at_home = uri.scheme() == hub.scheme() && uri.authority() == hub.authority();
            let response = self.send(&uri, from, at_home).map_err(|error| {
                failed(format!("{error}; check the connection, then try again; what is here already is kept"))
            })?;
            let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_string());
            etag = etag.or_else(|| header("x-linked-etag"));
            total = total.or_else(|| header("x-linked-size")?.parse().ok());
            let status = response.status().as_u16();
            match (status, header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    at = absolute(&uri, &location);
                }
                (200 | 206, _) => {
                    let etag = etag.or_else(|| header("etag").filter(|_| at_home));
                    let range = header("content-range").filter(|_| status == 206);
                    let (from, length) = match (status, range.as_deref().and_then(parse_range)) {
                        (206, Some(range)) => range,
                        (206, None) => return Err(failed("the server sends a part and not which".into())),
                        _ => (0, response.body().content_length()),
                    };
                    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
                    return Ok(Reply { etag, total: total.or(length), from, body: response.into_body() });
                }
                (401 | 403, _) => {
                    return Err(failed(format!(
                        "the hub refuses ({status}): there is no such model, or it is private or has terms to \
                         accept; check the name, or set HF_TOKEN"
                    )));
                }
                (404, _) => {
                    return Err(failed(
                        "the hub does not have it (404); check the name and the revision".into(),
                    ));
                }
                (status, _) => {
                    return Err(failed(format!("the server answers {status}; try again later")));
                }
            }
        }
        Err(failed("the server leads in circles; try again later".into()))
    }

    fn send(&self, uri: &Uri, from: u64, at_home: bool) -> Result<Response<ureq::Body>, ureq::Error> {
        // Compressed bytes would be counted and digested as what they are not.
        let mut request = self.agent.get(uri).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = self.hub.token.as_ref().filter(|_| at_home) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call()
    }
}

/// Where a `Location` leads.
fn absolute(from: &Uri, location: &str) -> String {
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    if location.contains("://") {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    }
}

/// The first byte, and the size of the whole, of `bytes 5-9/10`.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let from: Uri = "https://hub.example/a/resolve/main/f.json?x=1".parse().unwrap();
        for (location, to) in [
            ("https://cdn.example/f?y=2", "https://cdn.example/f?y=2"),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("/b/f.json", "https://hub.example/b/f.json"),
            ("g.json", "https://hub.example/a/resolve/main/g.json"),
        ] {
            assert_eq!(absolute(&from, location), to);
        }
    }

    #[test]
    fn ranges_are_parsed() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "5-9/10", "bytes x-9/10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
