//! The place a process takes before pingora starts: its settings, its sockets, and whose successor
//! it is.

use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pingora::server::configuration::ServerConf;

use super::handover::{self, Predecessor};
use super::sockets::Sockets;
use super::{Options, Unstartable, settings};
use crate::config::Config;

pub struct Place {
    pub settings: ServerConf,
    /// Where the control socket is to be.
    pub control: Option<PathBuf>,
    pub predecessor: Option<Predecessor>,
    pub sockets: Sockets,
    /// Another process started this one to take its place.
    pub launched: bool,
    /// Where this process's id is to be written; pingora writes that of a daemon it makes.
    pub pid_file: Option<String>,
}

impl Place {
    pub fn take(config: &Config, options: Options) -> Result<Self, Unstartable> {
        let mut settings = settings::pingora(config)?;
        let daemon = options.daemon || settings.daemon;
        // Started by another one, this process has no terminal to leave.
        let launched = handover::predecessor_path().is_some();
        settings.daemon = daemon && !launched;
        let pid_file = (daemon && launched).then(|| settings.pid_file.clone());
        let control = handover::control_path(config.upgrade_sock());
        if let Some(path) = &control {
            let prepared = handover::prepare_folder(path);
            prepared.map_err(|source| Unstartable::Control { path: path.clone(), source })?;
        }
        let mut inherited = Vec::new();
        let mut predecessor = None;
        match predecessor_of(control.as_deref(), options)? {
            Some(path) => {
                let met = Predecessor::greet(&path);
                let (met, sockets): (_, Vec<(String, RawFd)>) =
                    met.map_err(|source| Unstartable::Predecessor { path, source })?;
                (predecessor, inherited) = (Some(met), sockets);
            }
            None => refuse_company(control.as_deref())?,
        }
        let admin = config.admin.iter().map(|admin| admin.listen);
        let addresses = config.listen.iter().map(|given| given.address).chain(admin);
        let sockets = Sockets::open(addresses, inherited)?;
        Ok(Self { settings, control, predecessor, sockets, launched, pid_file })
    }
}

/// The control socket of the server that this process is to take over from.
fn predecessor_of(
    control: Option<&Path>,
    options: Options,
) -> Result<Option<PathBuf>, Unstartable> {
    if let Some(path) = handover::predecessor_path() {
        return Ok(Some(path));
    }
    match control {
        Some(path) if options.upgrade => Ok(Some(path.to_owned())),
        None if options.upgrade => Err(Unstartable::NoControl),
        _ => Ok(None),
    }
}

/// Two servers with one control socket: nobody could upgrade the first one any more.
fn refuse_company(control: Option<&Path>) -> Result<(), Unstartable> {
    match control.filter(|path| UnixStream::connect(path).is_ok()) {
        Some(path) => Err(Unstartable::Running(path.to_owned())),
        None => Ok(()),
    }
}
