//! Answers that may be given again without asking, for as long as the control
//! plane said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sockerless_shared::answer::Response;

/// Different requests remembered.
const MAX_ENTRIES: usize = 64;

/// The longest that an answer is given again, whatever the control plane said.
const LONGEST: Duration = Duration::from_secs(3600);

/// Cached answers by method, a space, path and query.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    response: Response,
    expires: Instant,
}

impl Cache {
    /// The key of a request without a body that asks and changes nothing.
    pub(super) fn key(method: &http::Method, uri: &http::Uri) -> Option<String> {
        let asks = *method == http::Method::GET || *method == http::Method::HEAD;
        let path = uri.path_and_query()?.as_str();
        asks.then(|| format!("{method} {path}"))
    }

    pub(super) fn get(&self, key: &str, now: Instant) -> Option<Response> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(key)?;
        (now < entry.expires).then(|| entry.response.clone())
    }

    pub(super) fn put(&self, key: String, response: &Response, now: Instant) {
        if response.cache_s == 0 {
            return;
        }
        let lifetime = Duration::from_secs(response.cache_s.into()).min(LONGEST);
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| now < entry.expires);
        }
        if entries.len() < MAX_ENTRIES {
            let entry = Entry {
                response: response.clone(),
                expires: now + lifetime,
            };
            entries.insert(key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use sockerless_shared::answer::Head;

    use super::*;

    fn response(cache_s: u32) -> Response {
        Response {
            head: Head {
                status: 200,
                headers: vec![],
            },
            body: "OK".into(),
            cache_s,
        }
    }

    #[test]
    fn an_answer_is_given_again_until_its_time_is_over() {
        let cache = Cache::default();
        let now = Instant::now();
        let get = http::Method::GET;
        let key = Cache::key(&get, &"/_ping".parse().unwrap()).unwrap();
        cache.put(key.clone(), &response(0), now);
        assert_eq!(cache.get(&key, now), None);
        cache.put(key.clone(), &response(5), now);
        assert_eq!(cache.get(&key, now), Some(response(5)));
        assert_eq!(cache.get(&key, now + Duration::from_secs(5)), None);
        for n in 0..1000 {
            cache.put(n.to_string(), &response(5), now);
        }
        assert_eq!(cache.0.lock().unwrap().len(), MAX_ENTRIES);
        let post = Cache::key(&http::Method::POST, &"/_ping".parse().unwrap());
        assert_eq!(post, None);
    }
}
