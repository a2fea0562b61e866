//! Who waits for a builder hears its place in line.
//!
//! The report travels with the task, not with the arguments, so that it passes every wrapper of a builder.

use std::sync::Arc;

/// What is told a place; 1 is the next whose turn it is.
type Report = Arc<dyn Fn(usize) + Send + Sync>;

tokio::task_local! {
    static REPORT: Report;
}

/// Runs `work`; whenever it waits in a builder's line, `report` hears its place: at first, and at every change. A place
/// of 1 is the next. `report` must not wait itself. What `work` spawns is not heard of.
pub async fn with_queue_report<F: Future>(report: impl Fn(usize) + Send + Sync + 'static, work: F) -> F::Output {
    REPORT.scope(Arc::new(report), work).await
}

/// For builders: tells whoever asked for it by [`with_queue_report`] that this task waits, at `place` in line.
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
