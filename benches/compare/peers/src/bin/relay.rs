//! A TCP relay: the floor under every proxy, since it reads and writes each byte once and looks at none.
//!
//! `relay LISTEN UPSTREAM`. One thread, one epoll; for small messages only, since a full socket makes it wait.

use std::{
    collections::HashMap,
    io::{Error, ErrorKind, Read, Result, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = &arguments[..] else {
        panic!("relay LISTEN UPSTREAM");
    };
    let listener = TcpListener::bind(listen)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let accepts = listener.as_raw_fd() as u64;
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(accepts),
        EventFlags::IN,
    )?;
    let mut sockets: HashMap<u64, TcpStream> = HashMap::new();
    let mut other: HashMap<u64, u64> = HashMap::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let from = event.data.u64();
            if from == accepts {
                let pair = [listener.accept()?.0, TcpStream::connect(upstream)?];
                let [app, up] = [0, 1].map(|side| pair[side].as_raw_fd() as u64);
                other.extend([(app, up), (up, app)]);
                for socket in pair {
                    socket.set_nodelay(true)?;
                    let key = socket.as_raw_fd() as u64;
                    epoll::add(&poll, &socket, EventData::new_u64(key), EventFlags::IN)?;
                    sockets.insert(key, socket);
                }
                continue;
            }
            // Its pair may have been closed by an earlier event of this round.
            let Some(&to) = other.get(&from) else {
                continue;
            };
            let passed = match (&sockets[&from]).read(&mut buffer) {
                Ok(0) => Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(read) => (&sockets[&to]).write_all(&buffer[..read]),
                Err(error) => Err(error),
            };
            if passed.is_err() {
                for key in [from, to] {
                    sockets.remove(&key);
                    other.remove(&key);
                }
            }
        }
    }
}
