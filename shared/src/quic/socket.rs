//! What QUIC takes for a UDP socket: two bounded queues of datagrams.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::Stream;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::peer_at;
use super::routes::Routes;
use super::transport::Pace;
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
/// the newest ticket to its peer and as many datagrams for it as there are and fit. It ends when the endpoint is gone. Nothing is
/// lost while nobody takes texts out; QUIC waits.
pub struct Outbox {
    queue: Arc<Queue>,
    routes: Arc<Routes>,
    pace: Pace,
}

impl RelaySocket {
    pub(super) fn new(local: SocketAddr, pace: Pace, routes: Arc<Routes>) -> (Arc<Self>, Outbox) {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
        });
        let socket = Arc::new(Self {
            local,
            inbox: Mutex::default(),
            outbox: Arc::clone(&queue),
        });
        let outbox = Outbox {
            queue,
            routes,
            pace,
        };
        (socket, outbox)
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

impl Outbox {
    /// Resolves when there is something to send, or never will be again; how long it is to be
    /// waited then for more to go with it. What there is is left where it is.
    pub async fn ready(&self) -> Duration {
        std::future::poll_fn(|cx| {
            let mut state = self.queue.lock();
            if state.closed {
                return Poll::Ready(Duration::ZERO);
            }
            let bytes: usize = (state.datagrams.iter())
                .map(|(_, datagram)| relay::text_bytes(datagram.len()))
                .sum();
            if bytes == 0 {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let full = !relay::fits(bytes);
            Poll::Ready(if full {
                Duration::ZERO
            } else {
                self.pace.linger
            })
        })
        .await
    }
}

impl QueueState {
    /// The next datagrams to one peer that fit one message.
    fn pop(&mut self) -> Option<(SocketAddr, Vec<Box<[u8]>>)> {
        let (to, first) = self.datagrams.pop_front()?;
        let mut bytes = relay::text_bytes(first.len());
        let mut together = vec![first];
        let mut index = 0;
        while let Some((other, datagram)) = self.datagrams.get(index) {
            if *other != to {
                index += 1;
                continue;
            }
            bytes += relay::text_bytes(datagram.len());
            if !relay::fits(bytes) {
                break;
            }
            together.extend(self.datagrams.remove(index).map(|(_, datagram)| datagram));
        }
        Some((to, together))
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
                match state.pop() {
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
            let (to, datagrams) = next;
            // Without a route they are lost; QUIC sends them again.
            let ticket = peer_at(to).and_then(|peer| self.routes.get(&peer));
            if let Some(ticket) = ticket {
                return Poll::Ready(Some(relay::encode(&ticket, &datagrams)));
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
