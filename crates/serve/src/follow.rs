//! What the server does by itself while it runs: it loads models whose files follow a training, and gives back the memory of
//! explanations that nobody asks for any more.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::log::Level;
use crate::model::{Model, Source};
use crate::sessions::lock;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long an explainer is kept that nobody asks.
const IDLE: Duration = Duration::from_secs(60);

/// Looks after the models until it is dropped.
pub(crate) async fn look_after(app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        add_awaited(&app).await;
        for model in app.models() {
            let looked = Arc::clone(&model);
            // Files are looked at, which may take a moment; the explainer's memory may be large.
            let look = move || {
                looked.current().release(IDLE);
                looked.is_behind()
            };
            if tokio::task::spawn_blocking(look).await.unwrap_or(false) {
                // What goes wrong is in the log, and the version that answers goes on.
                let _ = app.reload(&model).await;
            }
        }
    }
}

/// Adds the models of which there is something to load by now.
async fn add_awaited(app: &Arc<App>) {
    let awaited = std::mem::take(&mut *lock(&app.awaited));
    for source in awaited {
        let (with, name) = (Arc::clone(app), source.name.clone());
        match tokio::task::spawn_blocking(move || load(&with, source)).await {
            Ok(Ok(Some(model))) => app.add(model),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => app.logger.event(Level::Error, &format!("model '{name}' could not be loaded: {error}")),
        }
    }
}

/// The model of a source, if there is one by now; otherwise it is awaited further.
fn load(app: &App, source: Source) -> convnet::Result<Option<Model>> {
    if source.now().is_none() {
        lock(&app.awaited).push(source);
        return Ok(None);
    }
    Model::new(source, &app.engine, app.config.max_batch).map(Some)
}
