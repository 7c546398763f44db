//! A TLS 1.3 server that sends session tickets, which carry no data, until the other side leaves.

use std::io::{self, Write};
use std::sync::Arc;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ServerConnection, version};

use crate::certificates::Identity;
use crate::relay::listen;
use crate::tls_server::server_config;

/// `NewSessionTicket` (RFC 8446, 4.6.1): lifetime, age, nonce, a ticket of 200 bytes, no extensions.
const TICKET_BYTES: usize = 200;
/// Tickets in one write.
const TICKETS: usize = 200;

pub struct FloodingServer {
    pub port: u16,
}

impl FloodingServer {
    pub fn start(identity: &Identity) -> Self {
        let mut config = server_config(identity, None, &[&version::TLS13]);
        config.enable_secret_extraction = true;
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        let address = listen(move |mut stream| {
            let mut session =
                ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            while session.is_handshaking() || session.wants_write() {
                session.complete_io(&mut stream)?;
            }
            let secrets = session.dangerous_extract_secrets();
            let (mut sequence, secrets) = secrets.map_err(io::Error::other)?.tx;
            let sealer = Sealer::new(&secrets);
            loop {
                let mut records = Vec::new();
                for _ in 0..TICKETS {
                    sealer.seal_ticket(sequence, &mut records);
                    sequence += 1;
                }
                stream.write_all(&records)?;
            }
        });
        Self {
            port: address.port(),
        }
    }
}

struct Sealer {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Sealer {
    fn new(secrets: &ConnectionTrafficSecrets) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => panic!("an unknown cipher"),
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
        }
    }

    /// Appends one record (RFC 8446, 5.2) with one ticket.
    fn seal_ticket(&self, sequence: u64, records: &mut Vec<u8>) {
        const HANDSHAKE: u8 = 22;
        let mut ticket = vec![0, 0, 0x0e, 0x10, 0, 0, 0, 0, 0];
        ticket.extend((TICKET_BYTES as u16).to_be_bytes());
        ticket.extend([7; TICKET_BYTES]);
        ticket.extend([0, 0]);
        let mut content = vec![4, 0, 0, ticket.len() as u8];
        content.extend(ticket);
        content.push(HANDSHAKE);

        let length = content.len() + self.key.algorithm().tag_len();
        let mut header = vec![23, 3, 3];
        header.extend((length as u16).to_be_bytes());
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(&header);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aad, &mut content);
        records.extend_from_slice(&header);
        records.extend_from_slice(&content);
        records.extend_from_slice(tag.unwrap().as_ref());
    }
}
