//! Every replica refuses for half a minute: retries must not make it worse, and it must end by itself.

use std::time::Duration;

use tokio::time::sleep;

use crate::callers::{Callers, Kind, Window, failures};
use crate::model::{Model, TRIO, front};
use crate::sheet::{Sheet, count};

const TROUBLE: Duration = Duration::from_secs(30);
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_everywhere_is_not_multiplied_and_ends_when_it_ends() {
    let mut sheet = Sheet::of("retry_storm");
    let models = [Model::start(), Model::start(), Model::start()];
    let gateway = front(&TRIO.replace("@policy", "round_robin"), &models.each_ref()).await;
    let callers = Callers::start(gateway.address, &[Kind::Kept; 4], Duration::from_millis(30));
    sleep(Duration::from_secs(2)).await;

    let asked = || models.iter().map(Model::asked).sum::<usize>();
    for model in &models {
        model.fail_with(503);
    }
    let before = asked();
    let (trouble, ()) = Window::during(sleep(TROUBLE)).await;
    let upstream = asked() - before;
    models.iter().for_each(Model::heal);
    let (recovery, ()) = Window::during(sleep(RECOVERY)).await;
    let samples = callers.stop();

    let called = trouble.of(&samples);
    let after = recovery.of(&samples);
    assert!(called.len() > 1000 && after.len() > 100, "{} and {}", called.len(), after.len());
    let refused = failures(&called);
    assert!(count(refused) > 0.9 * count(called.len()), "{refused} of {}", called.len());
    sheet.at_most(
        &format!("upstream requests for each of {} client requests in 30 s of 503", called.len()),
        1.2,
        count(upstream) / count(called.len()),
    );
    let fine = count(after.len()) - count(failures(&after));
    sheet.at_least(
        &format!("{} requests in the 5 s after healing: fine, %", after.len()),
        95.0,
        fine * 100.0 / count(after.len()),
    );
    sheet.hold();
}
