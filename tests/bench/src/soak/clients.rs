//! A client of the REST API that never rests: logs in, creates, distributes, changes,
//! probes, lists and deletes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use restreamd_tests::api::{GROUP, provision_path};
use restreamd_tests::provision::Provision;
use serde_json::json;

use super::node::Places;
use super::weather::{Dice, Weather};

/// Starts it.
pub(super) fn start(node: &Places, weather: &Arc<Weather>) -> JoinHandle<()> {
    let (node, weather) = (*node, weather.clone());
    std::thread::spawn(move || {
        let mut dice = Dice::new(400);
        let mut round = 0;
        weather.each_rough(|| {
            round += 1;
            come_and_go(&node, &weather, &mut dice, round);
        });
    })
}

/// The life of one provision, of a stream that is there or not.
fn come_and_go(node: &Places, weather: &Weather, dice: &mut Dice, round: u64) {
    let client = node.client();
    let guid = format!("guest{round}");
    let stream = format!("live/g{}", round % 7);
    let url = |dice: &mut Dice| node.url(&format!("live/s{}", dice.roll(55)));
    let mut provision = Provision::pull(&guid, &stream, &url(dice));
    client.start(&provision);
    weather.rough_for(dice.time(50, 2_000));
    client.status(&guid);
    client.streams();
    client.get(&provision_path(""));
    if round.is_multiple_of(3) {
        provision = Provision::pull(&guid, &stream, &url(dice));
        let body = json!([provision.json()]);
        client
            .call("PUT", &provision_path(""), Some(&body))
            .expect(200);
        weather.rough_for(dice.time(50, 500));
    }
    if round.is_multiple_of(5) {
        let path = format!("/as/v1/streams/provision/{GROUP}/probe");
        let probed = Provision::pull("probed", "live/probed", &url(dice)).with("timeoutMs", 1_000);
        client.call("POST", &path, Some(&probed.json()));
    }
    client.delete(&guid);
    weather.rough_for(Duration::from_millis(100));
}
