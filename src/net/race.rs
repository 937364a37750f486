//! Connects to one of several addresses as in RFC 8305: another one is tried after a moment, and the first that is
//! connected wins.

use std::{io, net::SocketAddr, vec};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep_until},
};

use super::dns::Resolver;

/// How long an address may take before the next one is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connections that are being opened. Those that were not returned are given up when this is dropped.
pub(crate) struct Race<'a, C, A> {
    dns: &'a Resolver,
    connect: C,
    waiting: vec::IntoIter<SocketAddr>,
    attempts: FuturesUnordered<A>,
    /// The addresses that are being connected, in the order in which they were tried.
    running: Vec<SocketAddr>,
    next_at: Instant,
}

/// Opens a TCP connection to the first of `addresses` that can be connected. The others come last for a while.
pub(crate) async fn connect(dns: &Resolver, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut race = Race::new(dns, addresses, attempt);
    race.next().await.map(|(_, stream)| stream)
}

/// One attempt, with its address.
pub(crate) async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    (address, TcpStream::connect(address).await)
}

impl<'a, C, A, T> Race<'a, C, A>
where
    C: Fn(SocketAddr) -> A,
    A: Future<Output = (SocketAddr, io::Result<T>)>,
{
    /// Tries `addresses` in this order by `connect`, and notes in `dns` which ones failed.
    pub(crate) fn new(dns: &'a Resolver, addresses: Vec<SocketAddr>, connect: C) -> Self {
        Self {
            dns,
            connect,
            waiting: addresses.into_iter(),
            attempts: FuturesUnordered::new(),
            running: Vec::new(),
            next_at: Instant::now(),
        }
    }

    /// The next connection, or the last error when all addresses have failed. Nothing is lost if this is dropped
    /// before it returns.
    pub(crate) async fn next(&mut self) -> io::Result<(SocketAddr, T)> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            if Instant::now() >= self.next_at || self.attempts.is_empty() {
                self.start();
            }
            let more = self.waiting.len() > 0;
            tokio::select! {
                biased;
                ended = self.attempts.next() => match ended {
                    Some((address, Ok(stream))) => {
                        self.won(address);
                        return Ok((address, stream));
                    }
                    Some((address, Err(error))) => {
                        self.lost(address);
                        failure = error;
                        self.next_at = Instant::now();
                    }
                    None => return Err(failure),
                },
                () = sleep_until(self.next_at), if more => {}
            }
        }
    }

    /// Notes that the addresses that were tried and have not answered are not usable.
    pub(crate) fn timed_out(&self) {
        for address in &self.running {
            self.dns.note(address.ip(), false);
        }
    }

    fn start(&mut self) {
        if let Some(address) = self.waiting.next() {
            self.attempts.push((self.connect)(address));
            self.running.push(address);
            self.next_at = Instant::now() + NEXT_ADDRESS_AFTER;
        }
    }

    /// An address that was tried before the winner was slower than it by that moment at least.
    fn won(&mut self, winner: SocketAddr) {
        let at = self.running.iter().position(|address| *address == winner);
        let at = at.unwrap_or(0);
        for slower in &self.running[..at] {
            self.dns.note(slower.ip(), false);
        }
        self.running.retain(|address| *address != winner);
    }

    fn lost(&mut self, address: SocketAddr) {
        self.running.retain(|running| *running != address);
        self.dns.note(address.ip(), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Races addresses that are connected, or not, after so many milliseconds. Returns which one won, and when.
    async fn race(behaviours: &'static [(u64, bool)]) -> (Result<usize, io::ErrorKind>, u64) {
        let (dns, started) = (Resolver::new(None), Instant::now());
        let addresses = (0..behaviours.len()).map(|at| SocketAddr::from(([10, 0, 0, at as u8], 1)));
        let connect = |address: SocketAddr| async move {
            let SocketAddr::V4(v4) = address else {
                unreachable!()
            };
            let at = usize::from(v4.ip().octets()[3]);
            let (millis, connects) = behaviours[at];
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            (address, if connects { Ok(at) } else { Err(refused) })
        };
        let mut race = Race::new(&dns, addresses.collect(), connect);
        let won = race.next().await.map(|(_, at)| at);
        let millis = started.elapsed().as_millis() as u64;
        (won.map_err(|error| error.kind()), millis)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_is_tried_after_a_quarter_of_a_second_and_the_first_connected_wins() {
        const DEAD: (u64, bool) = (60_000, false);
        let refused = Err(io::ErrorKind::ConnectionRefused);
        for (behaviours, won, millis) in [
            ([(0, true)].as_slice(), Ok(0), 0),
            (&[(249, true), (0, true)], Ok(0), 249),
            (&[(300, true), (100, true)], Ok(0), 300),
            (&[(400, true), (100, true)], Ok(1), 350),
            (&[DEAD, (10, true)], Ok(1), 260),
            (&[DEAD, DEAD, (10, true)], Ok(2), 510),
            // A refusal needs no waiting.
            (&[(0, false), (0, false), (5, true)], Ok(2), 5),
            (&[(100, false), (5, true)], Ok(1), 105),
            (&[DEAD, (10, false), (10, true)], Ok(2), 270),
            (&[(0, false), (7, false)], refused, 7),
            (&[], Err(io::ErrorKind::AddrNotAvailable), 0),
        ] {
            // The timer counts whole milliseconds, and rounds up.
            let (winner, took) = race(behaviours).await;
            assert_eq!(winner, won, "{behaviours:?}");
            assert!(
                (millis..=millis + 3).contains(&took),
                "{behaviours:?} {took}"
            );
        }
    }
}
