//! The three keys of one migration, kept where only their owner can read them, for as long as
//! the migration is not over: a later coordinator proves with them that it is one.

use livmig_proto::{
    control::{Session, Side},
    identity::{IdentityError, PrivateKey},
    ids::MigrationUid,
};
use serde::{Deserialize, Serialize};

/// The coordinator's key and one for each mover.
#[derive(Clone)]
pub struct Keys {
    coordinator: PrivateKey,
    source: PrivateKey,
    destination: PrivateKey,
}

/// The file's content: PKCS#8 in hexadecimal.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredKeys {
    #[serde(with = "livmig_proto::hex::vec")]
    coordinator: Vec<u8>,
    #[serde(with = "livmig_proto::hex::vec")]
    source: Vec<u8>,
    #[serde(with = "livmig_proto::hex::vec")]
    destination: Vec<u8>,
}

impl Keys {
    /// New keys.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self {
            coordinator: PrivateKey::generate()?,
            source: PrivateKey::generate()?,
            destination: PrivateKey::generate()?,
        })
    }

    /// The keys as they are stored: one JSON object.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&StoredKeys {
            coordinator: self.coordinator.pkcs8().to_vec(),
            source: self.source.pkcs8().to_vec(),
            destination: self.destination.pkcs8().to_vec(),
        })
    }

    /// The keys that [`encode`](Self::encode) stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: StoredKeys = serde_json::from_slice(bytes)?;
        Ok(Self {
            coordinator: PrivateKey::from_pkcs8(stored.coordinator),
            source: PrivateKey::from_pkcs8(stored.source),
            destination: PrivateKey::from_pkcs8(stored.destination),
        })
    }

    /// The coordinator's own key.
    pub fn coordinator(&self) -> &PrivateKey {
        &self.coordinator
    }

    /// The key of one mover.
    pub fn mover(&self, side: Side) -> &PrivateKey {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    /// What the mover at `side` is told at its start.
    pub fn session(&self, migration: MigrationUid, side: Side) -> Result<Session, IdentityError> {
        let peer = match side {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        };
        Ok(Session {
            migration,
            side,
            private_key: self.mover(side).pkcs8().to_vec(),
            coordinator: self.coordinator.public()?.0,
            peer: self.mover(peer).public()?.0,
            foreign_root: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mover_expects_the_other() {
        let keys = Keys::generate().unwrap();
        let again = Keys::decode(&keys.encode().unwrap()).unwrap();
        let uid = MigrationUid([1; 16]);
        let (one, two) = (
            keys.session(uid, Side::Source).unwrap(),
            again.session(uid, Side::Source).unwrap(),
        );
        assert_eq!(one.private_key, two.private_key);
        assert_eq!(one.coordinator, two.coordinator);
        let other = keys.session(uid, Side::Destination).unwrap();
        assert_eq!(one.peer, keys.mover(Side::Destination).public().unwrap().0);
        assert_ne!(one.peer, other.peer);
    }
}
