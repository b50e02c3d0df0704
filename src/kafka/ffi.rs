//! The unsafe code of the project but for one call of the allocator: what of librdkafka the rdkafka crate lacks, and an eventfd.
//!
//! Owns raw queues, batches of messages, topic handles, group metadata and the eventfd, each freed once by its `Drop`.
//! Must never outlive its client: owners drop the client after. Decides nothing; errors leave as codes.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::client::NativeClient;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;

const NO_ERROR: Response = Response::RD_KAFKA_RESP_ERR_NO_ERROR;
/// Records of one call into `rd_kafka_produce_batch`: 72 KiB of pointers.
const PRODUCE_CHUNK: usize = 1_024;
/// Bytes kept of an error text of librdkafka.
const ERROR_TEXT: usize = 512;

/// What a call on a transaction, a group or an assignment answered other than success.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: Code,
    pub detail: String,
    pub fatal: bool,
    pub retriable: bool,
    pub abortable: bool,
}

fn checked(error: *mut rd::rd_kafka_error_t) -> Result<(), Failure> {
    let Some(error) = NonNull::new(error) else { return Ok(()) };
    // Safety: librdkafka hands the error over to the caller; it is read, then freed once.
    unsafe {
        let failure = Failure {
            code: rd::rd_kafka_error_code(error.as_ptr()).into(),
            detail: text(rd::rd_kafka_error_string(error.as_ptr())),
            fatal: rd::rd_kafka_error_is_fatal(error.as_ptr()) != 0,
            retriable: rd::rd_kafka_error_is_retriable(error.as_ptr()) != 0,
            abortable: rd::rd_kafka_error_txn_requires_abort(error.as_ptr()) != 0,
        };
        rd::rd_kafka_error_destroy(error.as_ptr());
        Err(failure)
    }
}

fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // Safety: librdkafka's texts are terminated and outlive this copy.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// An eventfd that queues write to when they cease to be empty.
pub(super) struct Wakeup(OwnedFd);

impl Wakeup {
    pub fn new() -> io::Result<Wakeup> {
        // Safety: the descriptor is new, and nobody else owns it.
        unsafe {
            match libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Wakeup(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Returns once a watched queue got its first item since it was last served, or after `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let wait = millis(timeout + Duration::from_micros(999));
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut count = [0u8; 8];
        // Safety: one pollfd and an eventfd's 8 bytes, both on this stack; the descriptor is open and non-blocking.
        unsafe {
            if libc::poll(&mut poll, 1, wait) > 0 {
                libc::read(poll.fd, count.as_mut_ptr().cast(), count.len());
            }
        }
    }

    /// Lets the consumer's own queue, that of group events, wake this up too.
    pub fn watch_group_events(&self, client: &NativeClient) {
        // Safety: the handle is destroyed at once; the queue behind it lives as long as the client.
        unsafe {
            if let Some(queue) = NonNull::new(rd::rd_kafka_queue_get_consumer(client.ptr())) {
                self.watch(queue);
                rd::rd_kafka_queue_destroy(queue.as_ptr());
            }
        }
    }

    /// # Safety
    /// The queue must be alive, and must be gone or disarmed before this is dropped.
    unsafe fn watch(&self, queue: NonNull<rd::rd_kafka_queue_t>) {
        let (fd, one) = (self.0.as_raw_fd(), 1u64.to_ne_bytes());
        // Safety: the payload is copied; the rest is the caller's promise.
        unsafe {
            rd::rd_kafka_queue_io_event_enable(queue.as_ptr(), fd, one.as_ptr().cast(), one.len());
        }
    }
}

/// A queue of a worker's own, to which the queues of its partitions are forwarded.
pub(super) struct RecordQueue(NonNull<rd::rd_kafka_queue_t>);

// Safety: librdkafka's queues may be used from any thread.
unsafe impl Send for RecordQueue {}

impl RecordQueue {
    pub fn new(client: &NativeClient, wakeup: &Wakeup) -> Option<RecordQueue> {
        // Safety: the client is alive; the queue disarms the eventfd when it is dropped.
        unsafe {
            let queue = RecordQueue(NonNull::new(rd::rd_kafka_queue_new(client.ptr()))?);
            wakeup.watch(queue.0);
            Some(queue)
        }
    }

    /// Forwards a partition's queue to this one; false if the client does not know the partition.
    pub fn forward(&self, client: &NativeClient, topic: &CStr, partition: i32) -> bool {
        // Safety: both queues are alive; the partition's handle is destroyed at once, its forwarding stays.
        unsafe {
            let queue = rd::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition);
            let Some(queue) = NonNull::new(queue) else { return false };
            rd::rd_kafka_queue_forward(queue.as_ptr(), self.0.as_ptr());
            rd::rd_kafka_queue_destroy(queue.as_ptr());
            true
        }
    }

    /// Moves up to `cap` messages that are there already into `messages`, which must be empty.
    pub fn consume(&self, messages: &mut Messages, cap: usize) {
        assert!(messages.0.is_empty(), "a batch must be dropped before the next");
        messages.0.reserve(cap);
        // Safety: room for `cap` pointers was reserved, and only as many as were written are taken over.
        unsafe {
            let count = rd::rd_kafka_consume_batch_queue(self.0.as_ptr(), 0, messages.0.as_mut_ptr(), cap);
            messages.0.set_len(usize::try_from(count).unwrap_or(0));
        }
    }
}

impl Drop for RecordQueue {
    fn drop(&mut self) {
        // Safety: this is the only owner's handle; partitions that still forward here hold references of their own.
        unsafe {
            rd::rd_kafka_queue_io_event_enable(self.0.as_ptr(), -1, ptr::null(), 0);
            rd::rd_kafka_queue_destroy(self.0.as_ptr());
        }
    }
}

/// Messages taken from a queue, each freed when this is cleared.
#[derive(Default)]
pub(super) struct Messages(Vec<*mut rd::rd_kafka_message_t>);

// Safety: the messages belong to this list alone and may be freed on any thread.
unsafe impl Send for Messages {}

impl Messages {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, at: usize) -> RawMessage<'_> {
        RawMessage(self.0[at], PhantomData)
    }

    pub fn clear(&mut self) {
        for message in self.0.drain(..) {
            // Safety: each message was handed over once by `consume` and leaves the list here.
            unsafe { rd::rd_kafka_message_destroy(message) }
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One message of a batch, not yet freed.
#[derive(Clone, Copy)]
pub(super) struct RawMessage<'b>(*mut rd::rd_kafka_message_t, PhantomData<&'b Messages>);

impl<'b> RawMessage<'b> {
    fn fields(self) -> &'b rd::rd_kafka_message_t {
        // Safety: not freed while its list is borrowed, and librdkafka does not write to these fields.
        unsafe { &*self.0 }
    }

    pub fn error(self) -> Option<(Code, String)> {
        let code = self.fields().err;
        if code == NO_ERROR {
            return None;
        }
        // Safety: the message is alive; the text is copied.
        Some((code.into(), text(unsafe { rd::rd_kafka_message_errstr(self.0) })))
    }

    /// Tells topics apart as long as one of their partitions stays assigned; 0 where there is none.
    pub fn topic_handle(self) -> usize {
        self.fields().rkt as usize
    }

    pub fn topic_name(self) -> Option<String> {
        let topic = self.fields().rkt;
        // Safety: a message keeps its topic alive; the name is copied.
        (!topic.is_null()).then(|| text(unsafe { rd::rd_kafka_topic_name(topic) }))
    }

    pub fn partition(self) -> i32 {
        self.fields().partition
    }

    pub fn offset(self) -> i64 {
        self.fields().offset
    }

    /// Milliseconds since the epoch, -1 where the record has none.
    pub fn timestamp(self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // Safety: the message is alive, and the kind lies on this stack.
        unsafe { rd::rd_kafka_message_timestamp(self.0, &mut kind) }
    }

    pub fn key(self) -> Option<&'b [u8]> {
        // Safety: the bytes belong to the message, which lives as long as its list is borrowed.
        unsafe { bytes(self.fields().key.cast(), self.fields().key_len) }
    }

    pub fn value(self) -> Option<&'b [u8]> {
        // Safety: as for the key.
        unsafe { bytes(self.fields().payload.cast(), self.fields().len) }
    }

    /// Names are UTF-8 by the protocol; what is not is replaced.
    pub fn headers(self) -> Vec<(Cow<'b, str>, Option<&'b [u8]>)> {
        let mut headers = ptr::null_mut();
        let mut found = Vec::new();
        // Safety: headers belong to the message, as do the names and values they point to; names are terminated.
        unsafe {
            if rd::rd_kafka_message_headers(self.0, &mut headers) != NO_ERROR {
                return found;
            }
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            while rd::rd_kafka_header_get_all(headers, found.len(), &mut name, &mut value, &mut len)
                == NO_ERROR
            {
                found.push((CStr::from_ptr(name).to_string_lossy(), bytes(value.cast(), len)));
            }
        }
        found
    }
}

/// # Safety
/// A pointer that is not null must lead to `length` bytes that live as long as `'b`.
unsafe fn bytes<'b>(from: *const u8, length: usize) -> Option<&'b [u8]> {
    // Safety: the caller's promise.
    (!from.is_null()).then(|| unsafe { slice::from_raw_parts(from, length) })
}

/// One entry of a list of partitions.
pub(super) struct Entry {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
    pub error: Option<Code>,
}

/// The entries of `list`, without the panics of the wrapper on bytes that are not UTF-8.
pub(super) fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    // Safety: the list is alive, holds `cnt` elements, and everything is copied out of it.
    unsafe {
        let native = &*list.ptr();
        let count = usize::try_from(native.cnt).unwrap_or(0);
        let elements = if count == 0 { &[][..] } else { slice::from_raw_parts(native.elems, count) };
        let entry = |element: &rd::rd_kafka_topic_partition_t| Entry {
            topic: text(element.topic),
            partition: element.partition,
            offset: element.offset,
            metadata: bytes(element.metadata.cast(), element.metadata_size)
                .map(|metadata| String::from_utf8_lossy(metadata).into_owned())
                .unwrap_or_default(),
            error: Some(Code::from(element.err)).filter(|code| *code != Code::NoError),
        };
        elements.iter().map(entry).collect()
    }
}

/// A snapshot of a consumer's membership, for `Producer::send_offsets`.
pub struct GroupMetadata(NonNull<rd::rd_kafka_consumer_group_metadata_t>);

// Safety: the snapshot is a private copy that nobody writes to.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    pub(super) fn of(client: &NativeClient) -> Option<GroupMetadata> {
        // Safety: the client is alive; the snapshot is the caller's to free.
        unsafe { NonNull::new(rd::rd_kafka_consumer_group_metadata(client.ptr())).map(GroupMetadata) }
    }

    /// The generation of the group, negative before the member has joined.
    pub fn generation(&self) -> i32 {
        // Safety: the snapshot is alive.
        unsafe { rd::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) }
    }

    /// Whether the client knows itself by an id: it forgets that when its session ends, and the generation only later.
    pub(super) fn has_member_id(&self) -> bool {
        // Safety: the snapshot is alive, and its text terminated.
        unsafe { *rd::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr()) != 0 }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // Safety: freed once, by its owner.
        unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

pub(super) fn send_offsets(
    client: &NativeClient,
    offsets: &TopicPartitionList,
    group: &GroupMetadata,
    timeout: Duration,
) -> Result<(), Failure> {
    // Safety: all three are alive for the length of the call, which copies what it keeps.
    checked(unsafe {
        rd::rd_kafka_send_offsets_to_transaction(
            client.ptr(),
            offsets.ptr(),
            group.0.as_ptr(),
            millis(timeout),
        )
    })
}

pub(super) fn commit_transaction(client: &NativeClient, timeout: Duration) -> Result<(), Failure> {
    // Safety: the client is alive.
    checked(unsafe { rd::rd_kafka_commit_transaction(client.ptr(), millis(timeout)) })
}

/// Sends what is queued; true if nothing is left in flight within `timeout`.
pub(super) fn flush(client: &NativeClient, timeout: Duration) -> bool {
    // Safety: the client is alive.
    unsafe { rd::rd_kafka_flush(client.ptr(), millis(timeout)) == NO_ERROR }
}

/// An output topic as a producer knows it. Invariant: dropped before its producer.
pub(super) struct TopicHandle(NonNull<rd::rd_kafka_topic_t>);

// Safety: librdkafka's topics may be used from any thread.
unsafe impl Send for TopicHandle {}

impl TopicHandle {
    pub fn new(client: &NativeClient, name: &CStr) -> Option<TopicHandle> {
        // Safety: the client is alive, the name is copied, and no settings of its own are given.
        unsafe {
            NonNull::new(rd::rd_kafka_topic_new(client.ptr(), name.as_ptr(), ptr::null_mut()))
                .map(TopicHandle)
        }
    }

    /// Queues copies of the records, in order, until one is refused: how many were taken before it, and why.
    pub fn produce(&self, partition: i32, records: &[(Option<&[u8]>, &[u8])]) -> Result<(), (usize, Code)> {
        let mut batch = Vec::with_capacity(records.len().min(PRODUCE_CHUNK));
        for (chunk, part) in records.chunks(PRODUCE_CHUNK).enumerate() {
            batch.clear();
            batch.extend(part.iter().map(|(key, value)| unsent(*key, value)));
            // Safety: keys and values are borrowed for the call, which copies them (RD_KAFKA_MSG_F_COPY).
            let taken = unsafe {
                rd::rd_kafka_produce_batch(
                    self.0.as_ptr(),
                    partition,
                    rd::RD_KAFKA_MSG_F_COPY,
                    batch.as_mut_ptr(),
                    batch.len() as i32,
                )
            };
            if taken as usize != part.len() {
                let refused = batch.iter().position(|m| m.err != NO_ERROR);
                let at = refused.unwrap_or(0);
                return Err((chunk * PRODUCE_CHUNK + at, batch[at].err.into()));
            }
        }
        Ok(())
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // Safety: freed once, before its producer.
        unsafe { rd::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

fn raw(bytes: Option<&[u8]>) -> (*mut std::ffi::c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

fn unsent(key: Option<&[u8]>, value: &[u8]) -> rd::rd_kafka_message_t {
    let (key, key_len) = raw(key);
    let (payload, len) = raw(Some(value));
    rd::rd_kafka_message_t {
        err: NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload,
        len,
        key,
        key_len,
        offset: 0,
        _private: ptr::null_mut(),
    }
}

/// A topic's id (KIP-516, base64) and its number of partitions.
pub(super) fn describe_topic(
    client: &NativeClient,
    name: &CString,
    timeout: Duration,
) -> Result<(String, i32), Failure> {
    let mut names = [name.as_ptr()];
    let mut errors: [c_char; ERROR_TEXT] = [0; ERROR_TEXT];
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // Safety: everything made here is destroyed here; the answer is copied before the event that owns it goes.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client.ptr());
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = rd::rd_kafka_AdminOptions_new(client.ptr(), operation);
        let (reason, size) = (errors.as_mut_ptr(), errors.len());
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), reason, size);
        rd::rd_kafka_DescribeTopics(client.ptr(), topics, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, millis(timeout + Duration::from_secs(1)));
        let described = described(event);
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_queue_destroy(queue);
        described
    }
}

/// # Safety
/// `event` must be null or an event that lives through the call.
unsafe fn described(event: *mut rd::rd_kafka_event_t) -> Result<(String, i32), Failure> {
    let refused = |code, detail| Failure { code, detail, fatal: false, retriable: true, abortable: false };
    if event.is_null() {
        return Err(refused(Code::OperationTimedOut, String::new()));
    }
    let check = |code: Response, detail| match Code::from(code) {
        Code::NoError => Ok(()),
        code => Err(refused(code, text(detail))),
    };
    // Safety: results, descriptions and ids are owned by the event.
    unsafe {
        check(rd::rd_kafka_event_error(event), rd::rd_kafka_event_error_string(event))?;
        let mut count = 0;
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 {
            return Err(refused(Code::Fail, format!("{count} topics described instead of one")));
        }
        let error = rd::rd_kafka_TopicDescription_error(*topics);
        check(rd::rd_kafka_error_code(error), rd::rd_kafka_error_string(error))?;
        let id = text(rd::rd_kafka_Uuid_base64str(rd::rd_kafka_TopicDescription_topic_id(*topics)));
        let mut count = 0;
        rd::rd_kafka_TopicDescription_partitions(*topics, &mut count);
        Ok((id, i32::try_from(count).unwrap_or(i32::MAX)))
    }
}

/// The end of a log (its high watermark) as the last fetch told it.
pub fn known_end(client: &NativeClient, topic: &CStr, partition: i32) -> Option<i64> {
    let (mut low, mut end) = (-1, -1);
    // Safety: the client lives, the name ends in a zero byte, both numbers outlive the call.
    unsafe {
        rd::rd_kafka_get_watermark_offsets(client.ptr(), topic.as_ptr(), partition, &mut low, &mut end)
    };
    (end >= 0).then_some(end)
}
