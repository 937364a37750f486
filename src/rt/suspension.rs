//! Notices that the machine was suspended, during which the clock of tokio stands still.
//!
//! `Instant` is CLOCK_MONOTONIC, which stops while a machine sleeps, so a token looks younger after that than it is. On
//! Linux CLOCK_BOOTTIME goes on meanwhile: the difference of both clocks is the time of all suspensions. The wall clock
//! would show a suspension as well, but it also moves when NTP or a person sets it.

use tokio::time::{Duration, sleep};

/// How often the clocks are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shorter suspensions are not reported before they add up to this.
const SHORTEST: Duration = Duration::from_secs(2);

/// The suspensions of the machine, as they end.
#[derive(Debug)]
pub struct Suspensions {
    ticker: Ticker,
    known: Known,
}

impl Default for Suspensions {
    fn default() -> Self {
        Self {
            ticker: Ticker::new(),
            known: Known(clock::suspended()),
        }
    }
}

impl Suspensions {
    /// Returns after the next suspension, with its duration.
    ///
    /// On Linux the clocks are compared as the first thing after it, because the timer counts CLOCK_BOOTTIME and is
    /// overdue then. Elsewhere they are compared within a second. A call may be sent before that; if its token has
    /// expired, WeChat refuses it, and it is replayed.
    pub async fn next(&mut self) -> Duration {
        loop {
            self.ticker.tick().await;
            if let Some(time) = self.known.update(clock::suspended()) {
                return time;
            }
        }
    }
}

/// The time of all suspensions that were reported.
#[derive(Debug)]
struct Known(Duration);

impl Known {
    /// The time to report, if the time of all suspensions so far is `total`.
    fn update(&mut self, total: Duration) -> Option<Duration> {
        let time = total.saturating_sub(self.0);
        // A wall clock can be set back.
        self.0 = self.0.min(total);
        // The two clocks are not read at the same moment, so small differences mean nothing.
        if time < SHORTEST {
            return None;
        }
        self.0 = total;
        Some(time)
    }
}

/// Ticks in each interval.
#[derive(Debug)]
struct Ticker {
    /// A timer that counts the time of a suspension; `None` where the system has none.
    timer: Option<clock::Timer>,
}

impl Ticker {
    fn new() -> Self {
        let timer = clock::timer(INTERVAL);
        if let Err(error) = &timer {
            tracing::debug!(%error, "no timer counts the time of a suspension");
        }
        Self { timer: timer.ok() }
    }

    async fn tick(&self) {
        let ticked = match &self.timer {
            Some(timer) => clock::wait_for(timer).await.is_ok(),
            None => false,
        };
        if !ticked {
            sleep(INTERVAL).await;
        }
    }
}

#[cfg(target_os = "linux")]
mod clock {
    //! The difference of two clocks, and a timer on the one that goes on.

    use std::{fs, io, os::fd::OwnedFd, sync::OnceLock};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::{io::unix::AsyncFd, time::Duration};

    /// The time of all suspensions since this was first asked, by `/proc/uptime`, which counts them, and the monotonic
    /// clock, which does not. (rustix reads clocks by the vDSO, which valgrind does not have.)
    // The clocks of the system are compared here, which no test pauses.
    #[allow(clippy::disallowed_types)]
    pub(super) fn suspended() -> Duration {
        static FIRST: OnceLock<(Duration, std::time::Instant)> = OnceLock::new();
        let Some(uptime) = uptime() else {
            return Duration::ZERO;
        };
        let (first, began) = *FIRST.get_or_init(|| (uptime, std::time::Instant::now()));
        uptime.saturating_sub(first).saturating_sub(began.elapsed())
    }

    fn uptime() -> Option<Duration> {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        let seconds = text.split_whitespace().next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// A timer on CLOCK_BOOTTIME.
    pub(super) type Timer = AsyncFd<OwnedFd>;

    /// A periodic one.
    // What replaces `AsyncFd::new` is unsafe, for the sake of types that may close their file. This one does not.
    #[expect(deprecated)]
    pub(super) fn timer(interval: Duration) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let interval = Timespec::try_from(interval).map_err(io::Error::other)?;
        let spec = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        AsyncFd::new(timer)
    }

    /// Waits until `timer` is due.
    pub(super) async fn wait_for(timer: &Timer) -> io::Result<()> {
        loop {
            let mut ready = timer.readable().await?;
            // How often it was due since the last read.
            let mut count = [0; 8];
            let read = |timer: &AsyncFd<_>| Ok(rustix::io::read(timer.get_ref(), &mut count)?);
            // An error means that it was not readable after all.
            if let Ok(read) = ready.try_io(read) {
                return read.map(drop);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    //! How much further the wall clock went than the monotonic one, which may also mean that it was set.

    use std::{io, sync::LazyLock, time::SystemTime};

    use tokio::time::{Duration, Instant};

    /// No timer goes on during a suspension. The clocks are compared in each interval of the usual clock.
    pub(super) use std::convert::Infallible as Timer;

    /// The time of all suspensions since the first call.
    pub(super) fn suspended() -> Duration {
        static START: LazyLock<(SystemTime, Instant)> =
            LazyLock::new(|| (SystemTime::now(), Instant::now()));
        let (wall, monotonic) = *START;
        let passed = SystemTime::now().duration_since(wall).unwrap_or_default();
        passed.saturating_sub(monotonic.elapsed())
    }

    /// There is none.
    pub(super) fn timer(_: Duration) -> io::Result<Timer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nor is it waited for.
    pub(super) async fn wait_for(timer: &Timer) -> io::Result<()> {
        match *timer {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// What is reported while the time of all suspensions is read as these seconds.
    fn reports(totals: &[f64]) -> Vec<Duration> {
        let mut known = Known(Duration::from_secs(9));
        let totals = totals.iter().copied().map(Duration::from_secs_f64);
        totals.filter_map(|total| known.update(total)).collect()
    }

    #[test]
    fn each_suspension_is_reported_once_and_noise_is_none() {
        let seconds = Duration::from_secs;
        assert!(reports(&[9.0, 9.003, 8.998, 9.0]).is_empty());
        let totals = [9.0, 3609.0, 3609.0, 3608.999, 3614.0];
        assert_eq!(
            reports(&totals),
            [seconds(3600), Duration::from_millis(5001)]
        );
        // Short ones add up.
        assert_eq!(reports(&[10.0, 11.0, 12.0]), [seconds(2)]);
        // A clock that was set back hides no later one.
        assert_eq!(reports(&[9.0, 5.0, 5.0, 8.0]), [seconds(3)]);
    }

    #[tokio::test]
    async fn the_timer_of_the_system_ticks_and_nothing_is_reported_of_a_machine_that_runs() {
        let began = Instant::now();
        let mut suspensions = Suspensions::default();
        if cfg!(target_os = "linux") {
            assert!(suspensions.ticker.timer.is_some());
        }
        for _ in 0..2 {
            suspensions.ticker.tick().await;
            assert_eq!(suspensions.known.update(clock::suspended()), None);
        }
        let took = began.elapsed();
        assert!((1900..4000).contains(&took.as_millis()), "{took:?}");
    }
}
