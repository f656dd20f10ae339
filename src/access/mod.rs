//! Who calls, and may they.

pub mod abuse;
mod credential;
mod directory;
mod errand;
mod history;
pub mod key;
mod keyring;
pub mod limits;
mod owners;
mod principal;
mod registry;
mod rules;
pub mod temporary;
mod user;

pub use self::credential::{
    Ambiguous, Credential, percent_decoded, subprotocols_without_key, without_keys,
};
pub use self::directory::{Directory, Loading, Lookup, counted};
pub use self::errand::Errand;
pub use self::history::{Draft, Found, History, Kept};
pub use self::key::{KeyPrivacy, KeyRecord};
pub use self::keyring::{Digest, Keyring};
pub use self::owners::{Origin, Owed, Owners};
pub use self::principal::{Grants, Made, Owner, Principal, Why, globs_within};
pub use self::registry::Registry;
pub use self::rules::Rules;
pub use self::user::{Role, State, User, UserRecord};
