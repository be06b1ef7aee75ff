//! One client's connection: HTTP/1.1 until it ends or is taken over.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Frontend;
use super::io::ClientIo;
use super::service::{self, Outcome, TakeOver};
use super::take_over;
use super::watch::{ClientWatch, HalfClose};

/// Longest request line and headers, and most headers. Registry credentials
/// travel in a header. hyper answers 431 beyond it.
const MAX_HEAD_BYTES: usize = 256 * 1024;
const MAX_HEADERS: usize = 256;

/// Serves a connection until it ends. When `stop` becomes true, it ends with the
/// response under way.
pub(super) async fn serve<S>(
    stream: S,
    half_close: HalfClose,
    frontend: Arc<Frontend>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
{
    let client = Arc::new(ClientWatch::new(&stream, half_close)?);
    // Filled by the service when a request ends HTTP on this connection.
    let order: Arc<Mutex<Option<Box<TakeOver>>>> = Arc::default();
    let (io, writes) = ClientIo::new(stream);
    let service = service_fn(|request: Request<Incoming>| {
        let (frontend, client) = (Arc::clone(&frontend), Arc::clone(&client));
        let order = Arc::clone(&order);
        async move {
            match service::handle(&frontend, &client, request).await {
                Outcome::Response(response) => Ok::<_, Infallible>(response),
                Outcome::TakeOver(taken) => {
                    *order.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
                    // There is no response that hyper could write.
                    std::future::pending().await
                }
            }
        }
    });
    let mut http = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, service);

    let mut stopping = std::pin::pin!(async move {
        // An error says that nobody can stop it any more.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let mut told_to_stop = false;
    let taken = std::future::poll_fn(|cx| {
        if !told_to_stop && stopping.as_mut().poll(cx).is_ready() {
            told_to_stop = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(ended.map(|()| None));
        }
        // What hyper still holds of earlier responses goes out first.
        if writes.is_flushed()
            && let Some(taken) = order.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Poll::Ready(Ok(Some(taken)));
        }
        Poll::Pending
    })
    .await;
    match taken {
        Ok(None) => Ok(()),
        Ok(Some(taken)) => {
            let parts = http.into_parts();
            take_over::run(parts.io.into_inner(), parts.read_buf, client, *taken).await;
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%error, "a client's connection ended");
            Ok(())
        }
    }
}
