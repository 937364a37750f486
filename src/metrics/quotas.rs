//! What is known of an account's quotas of calls, by endpoint: when WeChat said that one is used up, and what it answered
//! to who asked for the numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

/// How many endpoints are kept, of each account.
const MOST: usize = 12;

/// What is older says nothing any more, since days begin anew.
const LIFE: Duration = Duration::from_secs(86_400);

/// How much of a rid is kept, in characters.
const LONGEST_RID: usize = 64;

/// The quotas of an account. The lock is taken only when WeChat answers so.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<Vec<EndpointQuota>>);

/// What is known of one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointQuota {
    /// Its label.
    pub endpoint: &'static str,
    /// The errcodes by which WeChat said that a quota is used up.
    pub hits: Vec<QuotaHit>,
    /// What WeChat answered last to a question about it.
    pub reading: Option<(QuotaReading, Instant)>,
}

/// Replies with the same errcode.
#[derive(Clone, Debug)]
pub struct QuotaHit {
    /// 45009 for a day's quota at WeChat, 45011 for a minute's.
    pub errcode: i64,
    /// How many there were, within a day of each other.
    pub count: u64,
    /// When the last one came.
    pub at: Instant,
    /// What WeChat's support asks for, of the last one.
    pub rid: Option<String>,
}

/// The numbers in a reply of `/cgi-bin/openapi/quota/get`. WeChat may leave out each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaReading {
    /// Calls that the account may make in a day.
    pub daily_limit: Option<u64>,
    /// Calls that it made today.
    pub used: Option<u64>,
    /// Calls that are left today.
    pub remain: Option<u64>,
    /// How many calls may come in a period.
    pub rate_limit: Option<CallRate>,
    /// The same for calls that a third-party platform makes for the account.
    pub component_rate_limit: Option<CallRate>,
}

/// So many calls in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRate {
    /// The calls.
    pub call_count: u64,
    /// The seconds.
    pub refresh_second: u64,
}

impl Quotas {
    /// WeChat answered a call to `endpoint` that a quota is used up.
    pub fn hit(&self, endpoint: &'static str, errcode: i64, rid: Option<&str>) {
        let mut all = self.lock();
        let quota = entry(&mut all, endpoint);
        let rid = rid.map(|rid| rid.chars().take(LONGEST_RID).collect());
        let at = Instant::now();
        quota.hits.retain(|hit| hit.at.elapsed() < LIFE);
        match quota.hits.iter_mut().find(|hit| hit.errcode == errcode) {
            Some(hit) => {
                hit.count += 1;
                (hit.at, hit.rid) = (at, rid);
            }
            None => quota.hits.push(QuotaHit {
                errcode,
                count: 1,
                at,
                rid,
            }),
        }
    }

    /// WeChat answered a question about `endpoint`.
    pub fn read(&self, endpoint: &'static str, reading: QuotaReading) {
        let mut all = self.lock();
        entry(&mut all, endpoint).reading = Some((reading, Instant::now()));
    }

    /// All that is known and not too old, the latest first.
    pub fn all(&self) -> Vec<EndpointQuota> {
        let mut all = self.lock().clone();
        for quota in &mut all {
            quota.hits.retain(|hit| hit.at.elapsed() < LIFE);
            quota.reading = quota.reading.filter(|(_, at)| at.elapsed() < LIFE);
        }
        all.retain(|quota| quota.last().is_some());
        all.sort_by_key(|quota| std::cmp::Reverse(quota.last()));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EndpointQuota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndpointQuota {
    /// When something was heard of it last.
    fn last(&self) -> Option<Instant> {
        let hits = self.hits.iter().map(|hit| hit.at);
        hits.chain(self.reading.map(|(_, at)| at)).max()
    }
}

/// What is known of `endpoint`. If it is new and there are too many, it takes the place of the one of which nothing was
/// heard for the longest time.
fn entry<'a>(all: &'a mut Vec<EndpointQuota>, endpoint: &'static str) -> &'a mut EndpointQuota {
    let at = all.iter().position(|quota| quota.endpoint == endpoint);
    let at = at.unwrap_or_else(|| {
        if all.len() >= MOST {
            let oldest = (0..all.len()).min_by_key(|at| all[*at].last());
            all.swap_remove(oldest.unwrap_or_default());
        }
        all.push(EndpointQuota {
            endpoint,
            hits: Vec::new(),
            reading: None,
        });
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_latest_endpoints_are_kept_for_a_day() {
        let quotas = Quotas::default();
        let paths: Vec<&'static str> = (0..20).map(|at| &*format!("/path/{at}").leak()).collect();
        for path in &paths {
            quotas.hit(path, 45009, Some("1-2-3"));
            advance(Duration::from_secs(60)).await;
            quotas.hit(paths[0], 45011, None);
        }
        let all = quotas.all();
        assert_eq!((all.len(), all[0].endpoint), (MOST, "/path/0"));
        assert!(all.iter().all(|quota| quota.endpoint != "/path/1"));
        let hits: Vec<_> = all[0]
            .hits
            .iter()
            .map(|hit| (hit.errcode, hit.count))
            .collect();
        assert_eq!(hits, [(45009, 1), (45011, 20)]);
        let reading = QuotaReading {
            used: Some(7),
            ..QuotaReading::default()
        };
        quotas.read("/path/0", reading);
        assert_eq!(
            quotas.all()[0].reading.map(|(reading, _)| reading),
            Some(reading)
        );
        advance(LIFE).await;
        assert!(quotas.all().is_empty());
        quotas.hit("/path/0", 45011, None);
        assert_eq!(quotas.all()[0].hits[0].count, 1);
    }
}
