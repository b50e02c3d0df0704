//! Two requests of Kafka's protocol that no client library sends for itself: who writes under a transactional id, and the
//! late copy of a commit.

use std::io::{Read, Write};
use std::net::TcpStream;

/// API keys; of both the oldest versions are sent that every broker knows.
const END_TXN: i16 = 26;
const DESCRIBE_TRANSACTIONS: i16 = 65;

/// One incarnation of a transactional producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    pub id: i64,
    pub epoch: i16,
}

/// The present incarnation under a transactional id, from the only broker there is.
pub fn incarnation(broker: &str, transactional_id: &str) -> Incarnation {
    // A list of one text in the compact encoding, and no tagged fields: of the header, and of the body.
    let length = u8::try_from(transactional_id.len() + 1).unwrap();
    let body = [&[0, 2, length], transactional_id.as_bytes(), &[0]].concat();
    let mut answer = ask(broker, (DESCRIBE_TRANSACTIONS, 0), &body);
    // No tagged fields, the throttle time, a list of one.
    let rest = answer.split_off(1 + 4 + 1);
    let error = i16::from_be_bytes(rest[..2].try_into().unwrap());
    assert_eq!(error, 0, "{transactional_id}");
    let name = usize::from(rest[2]);
    let state = 2 + name + usize::from(rest[2 + name]);
    // The time-out and the start of the transaction come before.
    let at = state + 4 + 8;
    Incarnation {
        id: i64::from_be_bytes(rest[at..at + 8].try_into().unwrap()),
        epoch: i16::from_be_bytes(rest[at + 8..at + 10].try_into().unwrap()),
    }
}

/// Asks for the commit of the incarnation's transaction; answers Kafka's error code, 0 where it was obeyed.
pub fn commit(broker: &str, transactional_id: &str, Incarnation { id, epoch }: Incarnation) -> i16 {
    let name = transactional_id.as_bytes();
    let length = i16::try_from(name.len()).unwrap();
    let body = [&length.to_be_bytes(), name, &id.to_be_bytes()[..], &epoch.to_be_bytes(), &[1]].concat();
    let answer = ask(broker, (END_TXN, 1), &body);
    i16::from_be_bytes(answer[4..6].try_into().unwrap())
}

/// Answers what follows the correlation id.
fn ask(broker: &str, (key, version): (i16, i16), body: &[u8]) -> Vec<u8> {
    const CORRELATION: [u8; 4] = [0; 4];
    const CLIENT: [u8; 3] = [0, 1, b't'];
    let request = [&key.to_be_bytes()[..], &version.to_be_bytes(), &CORRELATION, &CLIENT, body].concat();
    let mut connection = TcpStream::connect(broker).unwrap();
    connection.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    connection.write_all(&request).unwrap();
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    connection.read_exact(&mut answer).unwrap();
    answer.split_off(CORRELATION.len())
}
