//! Connections: accepted while there is room, each with its times, and closed when the server stops.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::App;
use crate::connections::{Connections, Place};
use crate::log::Level;
use crate::patient::Patient;

/// Pause after the system has refused a connection, as when there are too many open files.
const REFUSED: Duration = Duration::from_millis(50);
/// What a connection hears that is refused.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n\
                      Content-Length: 37\r\n\r\n{\"error\": \"all connections are busy\"}";

/// Serves connections until `stop` ends. From then on the server says that it is not ready, goes on for the grace, and then lets
/// all requests end that are under way, for as long as they may take.
pub(crate) async fn serve(app: Arc<App>, router: Router, listener: TcpListener, stop: impl Future<Output = ()>) {
    let connections = Connections::new(app.config.max_connections);
    let (closing, closed) = watch::channel(());
    let mut tasks = JoinSet::new();
    let mut accept = async |stop: std::pin::Pin<&mut dyn Future<Output = ()>>| {
        let mut stop = stop;
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => match connections.open() {
                        Some(place) => {
                            tasks.spawn(connection(Arc::clone(&app), router.clone(), stream, place, closed.clone()));
                        }
                        None => refuse(stream),
                    },
                    Err(error) => {
                        app.logger.event(Level::Error, &format!("accepting a connection: {error}"));
                        tokio::time::sleep(REFUSED).await;
                    }
                },
            }
            app.metrics.connections.set(connections.count() as i64);
        }
    };
    accept(std::pin::pin!(stop)).await;
    app.ready.store(false, Ordering::Release);
    app.logger.event(Level::Info, "stopping: what is under way is answered");
    accept(std::pin::pin!(tokio::time::sleep(app.config.drain_grace))).await;
    drop(listener);
    // Told to each connection: idle ones close at once, the others after their answer.
    let _ = closing.send(());
    let ended =
        tokio::time::timeout(app.config.drain_timeout, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        app.logger.event(Level::Error, &format!("{} connections did not end in time", tasks.len()));
    }
}

/// Tells a client that there is no room for it. It need not hear it.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(FULL);
    }
}

async fn connection(app: Arc<App>, router: Router, stream: TcpStream, place: Place, mut closing: watch::Receiver<()>) {
    // An answer is written at once; where that cannot be set it comes later.
    let _ = stream.set_nodelay(true);
    let entry = Arc::clone(&place.entry);
    let service = service_fn(move |mut request: Request<Incoming>| {
        entry.touch();
        request.extensions_mut().insert(Arc::clone(&entry));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(app.config.header_timeout);
    let stream = Patient::new(stream, app.config.write_timeout);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client that breaks off, or that is too slow, is its own affair.
        _ = &mut connection => return,
        () = place.entry.closed.notified() => return,
        _ = closing.changed() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = place.entry.closed.notified() => {}
    }
}
