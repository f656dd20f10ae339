//! Who calls, and may they.

mod credential;
mod keyring;
pub mod limits;
mod owners;
mod principal;

pub use self::credential::{
    Ambiguous, Credential, percent_decoded, subprotocols_without_key, without_keys,
};
pub use self::keyring::{Digest, Keyring};
pub use self::owners::{Origin, Owners};
pub use self::principal::Principal;
