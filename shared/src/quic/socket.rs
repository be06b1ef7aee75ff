//! What QUIC takes for a UDP socket: two bounded queues of datagrams.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::peer_at;
use super::routes::Routes;
use crate::protocol::relay;

/// Datagrams that wait for the gateway; beyond it QUIC is told to wait. About
/// 1 MB: enough to keep a WebSocket busy, little enough for an acknowledgement
/// not to be late.
const OUTBOX_DATAGRAMS: usize = 64;

/// Datagrams that wait for QUIC; beyond it they are lost, as with UDP. More
/// than one connection's receive window has.
const INBOX_DATAGRAMS: usize = 4096;

/// The socket. QUIC's tasks hold it, and so does the endpoint's handle.
pub(super) struct RelaySocket {
    local: SocketAddr,
    inbox: Mutex<Inbox>,
    outbox: Arc<Queue>,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

struct Queue {
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    datagrams: VecDeque<(SocketAddr, Box<[u8]>)>,
    /// Who takes datagrams out.
    reader: Option<Waker>,
    /// Who waits for space, each under the number of its poller.
    writers: Vec<(u64, Waker)>,
    next_poller: u64,
    closed: bool,
}

/// What an endpoint wants sent: a stream of texts for the gateway, each with
/// the newest ticket to its peer. It ends when the endpoint is gone. Nothing is
/// lost while nobody takes texts out; QUIC waits.
pub struct Outbox {
    queue: Arc<Queue>,
    routes: Arc<Routes>,
}

impl RelaySocket {
    pub(super) fn new(local: SocketAddr, routes: Arc<Routes>) -> (Arc<Self>, Outbox) {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
        });
        let socket = Arc::new(Self {
            local,
            inbox: Mutex::default(),
            outbox: Arc::clone(&queue),
        });
        (socket, Outbox { queue, routes })
    }

    /// A datagram came in.
    pub(super) fn receive(&self, from: SocketAddr, datagram: Vec<u8>) {
        let waker = {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            if inbox.datagrams.len() >= INBOX_DATAGRAMS {
                return;
            }
            inbox.datagrams.push_back((from, datagram));
            inbox.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RelaySocket {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        state.closed = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl fmt::Debug for RelaySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelaySocket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

impl Stream for Outbox {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            let (next, writers) = {
                let mut state = self.queue.lock();
                match state.datagrams.pop_front() {
                    Some(next) => (next, std::mem::take(&mut state.writers)),
                    None if state.closed => return Poll::Ready(None),
                    None => {
                        state.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            for (_, writer) in writers {
                writer.wake();
            }
            let (to, datagram) = next;
            // Without a route the datagram is lost; QUIC sends it again.
            let ticket = peer_at(to).and_then(|peer| self.routes.get(&peer));
            if let Some(ticket) = ticket {
                return Poll::Ready(Some(relay::encode(&ticket, &datagram)));
            }
        }
    }
}

impl AsyncUdpSocket for RelaySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let number = {
            let mut state = self.outbox.lock();
            state.next_poller += 1;
            state.next_poller
        };
        Box::pin(SpacePoller {
            queue: Arc::clone(&self.outbox),
            number,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let reader = {
            let mut state = self.outbox.lock();
            if state.datagrams.len() >= OUTBOX_DATAGRAMS {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state
                .datagrams
                .push_back((transmit.destination, transmit.contents.into()));
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, datagram)) = inbox.datagrams.pop_front() else {
                break;
            };
            // A datagram is at most MAX_DATAGRAM_BYTES long, and so is a buffer.
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            meta.addr = from;
            meta.len = length;
            meta.stride = length;
            received += 1;
        }
        if received == 0 {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// Waits for space in the outbox, for one connection.
struct SpacePoller {
    queue: Arc<Queue>,
    number: u64,
}

impl UdpPoller for SpacePoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.queue.lock();
        if state.datagrams.len() < OUTBOX_DATAGRAMS {
            return Poll::Ready(Ok(()));
        }
        let number = self.number;
        match state.writers.iter_mut().find(|(n, _)| *n == number) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.writers.push((number, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for SpacePoller {
    fn drop(&mut self) {
        let number = self.number;
        self.queue.lock().writers.retain(|(n, _)| *n != number);
    }
}

impl fmt::Debug for SpacePoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpacePoller")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
