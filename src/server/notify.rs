//! What systemd is told (`sd_notify(3)`). Without `NOTIFY_SOCKET` in the environment nobody is there
//! to be told, and nothing happens.
//!
//! The variable stays where it is: a successor inherits it, and speaks to the same systemd.

use log::warn;
use sd_notify::NotifyState;

/// This process serves.
pub fn ready() {
    say(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// This process goes, and no other one takes its place: systemd takes it for the end of the service.
pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Another process is the main one now.
pub fn main_pid(pid: u32) {
    let status = format!("process {pid} serves, process {} drains", std::process::id());
    say(&[NotifyState::MainPid(pid), NotifyState::Status(&status)]);
}

/// This process works.
pub(super) fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// The process that serves has failed, and this one, which drains, cannot take its place again: the
/// service is to be restarted at once.
pub fn trigger_watchdog() {
    say(&[NotifyState::WatchdogTrigger]);
}

fn say(what: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(what) {
        warn!("systemd is not told {what:?}: {error}");
    }
}
