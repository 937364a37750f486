//! Load that goes to one proxy after the other in short turns: what differs by a hundredth can be told, since a
//! machine's slow minutes fall on all of them.
//!
//! `turns CONNECTIONS MILLISECONDS TURNS PATH PORT:PID,PID…`, the last once for each proxy. Prints a line a turn:
//! which proxy, microseconds of CPU a call, calls a second. All replies of a proxy must have one length.

use std::{
    fs,
    io::{Error, Read, Result, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
};

/// One proxy, with all its connections.
struct Proxy {
    processes: Vec<String>,
    sockets: Vec<TcpStream>,
    poll: OwnedFd,
    reply: usize,
}

impl Proxy {
    fn new(port: &str, processes: &str, connections: usize, call: &[u8]) -> Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut sockets = Vec::new();
        for at in 0..connections {
            let socket = TcpStream::connect(format!("127.0.0.1:{port}"))?;
            socket.set_nodelay(true)?;
            epoll::add(
                &poll,
                &socket,
                EventData::new_u64(at as u64),
                EventFlags::IN,
            )?;
            sockets.push(socket);
        }
        let mut buffer = [0; 4096];
        (&sockets[0]).write_all(call)?;
        let reply = (&sockets[0]).read(&mut buffer)?;
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(Error::other(String::from_utf8_lossy(&buffer[..reply])));
        }
        let processes = processes.split(',').map(str::to_owned).collect();
        Ok(Self {
            processes,
            sockets,
            poll,
            reply,
        })
    }

    /// Nanoseconds on a CPU of all threads.
    fn cpu(&self) -> Result<u64> {
        let mut sum = 0;
        for process in &self.processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
                let first = stat.split(' ').next().unwrap_or_default();
                sum += first.parse::<u64>().map_err(Error::other)?;
            }
        }
        Ok(sum)
    }

    /// Keeps every connection busy for `time`: how many calls were answered.
    fn turn(&self, time: Duration, call: &[u8]) -> Result<u64> {
        let began = Instant::now();
        for mut socket in &self.sockets {
            socket.write_all(call)?;
        }
        let (mut under_way, mut answered) = (self.sockets.len(), 0);
        let (mut events, mut buffer) = (Vec::with_capacity(256), [0; 4096]);
        while under_way > 0 {
            events.clear();
            epoll::wait(&self.poll, spare_capacity(&mut events), None)?;
            let goes_on = began.elapsed() < time;
            for event in events.drain(..) {
                let mut socket = &self.sockets[event.data.u64() as usize];
                let read = socket.read(&mut buffer)?;
                if read != self.reply {
                    return Err(Error::other(format!(
                        "a reply of {read} bytes, not {}",
                        self.reply
                    )));
                }
                answered += 1;
                if goes_on {
                    socket.write_all(call)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        Ok(answered)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connections, milliseconds, turns, path, proxies @ ..] = &arguments[..] else {
        panic!("turns CONNECTIONS MILLISECONDS TURNS PATH PORT:PID,PID…");
    };
    let number = |text: &str| text.parse::<u64>().map_err(Error::other);
    let time = Duration::from_millis(number(milliseconds)?);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
    );
    let call = [head.as_bytes(), &[b'x'; 200]].concat();
    let connections = number(connections)? as usize;
    let opened = proxies.iter().map(|proxy| {
        let (port, processes) = proxy.split_once(':').ok_or(Error::other("PORT:PID"))?;
        Proxy::new(port, processes, connections, &call)
    });
    let proxies = opened.collect::<Result<Vec<_>>>()?;
    for proxy in &proxies {
        proxy.turn(time, &call)?;
    }
    for turn in 0..number(turns)? as usize {
        for at in 0..proxies.len() {
            // There and back, so that nobody is always the first.
            let at = if turn % 2 == 0 {
                at
            } else {
                proxies.len() - 1 - at
            };
            let (before, began) = (proxies[at].cpu()?, Instant::now());
            let answered = proxies[at].turn(time, &call)? as f64;
            let second = began.elapsed().as_secs_f64();
            let cpu = (proxies[at].cpu()? - before) as f64;
            println!(
                "{at} {:.3} {:.0}",
                cpu / 1000.0 / answered,
                answered / second
            );
        }
    }
    Ok(())
}
