//! Tells callers that wait for a builder their place in line.
//!
//! The report belongs to the task, not to the arguments, so that it passes through every wrapper of a builder.

use std::sync::Arc;

/// Receives a place in line; 1 is the next one.
type Report = Arc<dyn Fn(usize) + Send + Sync>;

tokio::task_local! {
    static REPORT: Report;
}

/// Runs `work` and calls `report` with its place whenever it waits in a builder's line: once at first, and again at
/// every change. Place 1 is the next one. `report` must not block. Tasks that `work` spawns are not reported.
pub async fn with_queue_report<F: Future>(report: impl Fn(usize) + Send + Sync + 'static, work: F) -> F::Output {
    REPORT.scope(Arc::new(report), work).await
}

/// Reports that this task waits at `place` in line, if its caller used [`with_queue_report`]. Called by builders.
pub fn report_queue_place(place: usize) {
    // Most callers do not ask.
    let _asked = REPORT.try_with(|report| report(place));
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn places_reach_who_asked_and_nobody_else() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        with_queue_report(move |place| ears.lock().unwrap().push(place), async {
            report_queue_place(2);
            report_queue_place(1);
        })
        .await;
        report_queue_place(7);
        assert_eq!(*heard.lock().unwrap(), [2, 1]);
    }
}
