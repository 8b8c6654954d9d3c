// ringway.hpp - ringway from C++17: one header over ringway.h, nothing to link but libringway.
//
// What a call does, blocks on and returns is said in ringway.h; here is how C++ says it:
//
//   Handles    Move-only; closed when they go out of scope. Threads, forks and lifetimes as in ringway.h.
//   Result<T>  What every call returns. It converts to true when the call is done. value() is what came of
//              it; where nothing did, it throws ringway::Error (with exceptions off it says so and ends the program).
//              "Not now" is a result too: if (auto got = receiver.receive(buffer)) { ... }
//   Bytes      What is sent and seen: made of strings, vectors, arrays, or a pointer and a length.
//   Values     Objects of trivially copyable types are sent as their bytes; what is checked is the size.
//   Waits      Any std::chrono duration, ringway::forever, or nothing: then a call does not wait.
//
//   ringway::Bus bus = ringway::Bus::open("demo").value();
//   ringway::Queue orders = bus.queue("orders").value();
//   orders.sender().value().send("order 1").value();
//
// Licence: MIT or Apache-2.0, at your option.
#ifndef RINGWAY_HPP
#define RINGWAY_HPP

#include <ringway.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

// Where lookup finds them: beside their struct.
[[nodiscard]] constexpr bool operator==(
    const ringway_sequence_number_t &a, const ringway_sequence_number_t &b) noexcept {
    return a.shard == b.shard && a.position == b.position;
}
[[nodiscard]] constexpr bool operator<(
    const ringway_sequence_number_t &a, const ringway_sequence_number_t &b) noexcept {
    return a.shard != b.shard ? a.shard < b.shard : a.position < b.position;
}

namespace ringway {

#if defined(__cpp_exceptions)
/// A call that brought nothing, asked for its value.
class Error : public std::runtime_error {
public:
    explicit Error(int32_t status)
        : std::runtime_error(std::string(ringway_status_text(status)) +
                             (status < 0 ? std::string(": ") + ringway_last_error() : "")),
          status_(status) {}
    [[nodiscard]] int32_t status() const noexcept { return status_; }

private:
    int32_t status_;
};
#endif

namespace detail {
[[noreturn]] inline void fail(int32_t status) {
#if defined(__cpp_exceptions)
    throw Error(status);
#else
    std::fprintf(stderr, "%s: %s\n", ringway_status_text(status),
        status < 0 ? ringway_last_error() : "");
    std::abort();
#endif
}
} // namespace detail

/// What came of a call.
template <class T> class [[nodiscard]] Result {
public:
    Result(int32_t status, T value) : status_(status), value_(std::move(value)) {}

    /// Whether the call is done and there is a value.
    explicit operator bool() const noexcept { return status_ == RINGWAY_OK; }
    /// enum ringway_status: > 0 not now, < 0 failure.
    [[nodiscard]] int32_t status() const noexcept { return status_; }
    /// Whether it is worth trying again.
    [[nodiscard]] bool not_now() const noexcept { return status_ > 0; }
    [[nodiscard]] const char *text() const noexcept { return ringway_status_text(status_); }

    /// The value; throws where there is none.
    T &value() & { return check(), value_; }
    T value() && { return check(), std::move(value_); }
    /// The value, only looked at behind a test of the result.
    T &operator*() & { return check(), value_; }
    T *operator->() { return check(), &value_; }
    /// What was told though the call failed: the length that is needed, the records that were missed.
    [[nodiscard]] const T &told() const noexcept { return value_; }

private:
    void check() const {
        if (status_ != RINGWAY_OK) {
            detail::fail(status_);
        }
    }
    int32_t status_;
    T value_;
};

template <> class [[nodiscard]] Result<void> {
public:
    explicit Result(int32_t status) : status_(status) {}
    explicit operator bool() const noexcept { return status_ == RINGWAY_OK; }
    [[nodiscard]] int32_t status() const noexcept { return status_; }
    [[nodiscard]] bool not_now() const noexcept { return status_ > 0; }
    [[nodiscard]] const char *text() const noexcept { return ringway_status_text(status_); }
    /// Throws where the call is not done.
    void value() const {
        if (status_ != RINGWAY_OK) {
            detail::fail(status_);
        }
    }

private:
    int32_t status_;
};

/// How long a call may wait.
class Wait {
public:
    constexpr Wait() = default;
    constexpr explicit Wait(int64_t ns) : ns_(ns) {}
    template <class Rep, class Period>
    constexpr Wait(std::chrono::duration<Rep, Period> time) // NOLINT: a wait is a duration
        : ns_(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count()) {}
    [[nodiscard]] constexpr int64_t ns() const noexcept { return ns_; }

private:
    int64_t ns_ = 0;
};
/// Until there is something.
inline constexpr Wait forever{RINGWAY_FOREVER};
/// For receives: as long as the queue says.
inline constexpr Wait as_queue_says{RINGWAY_QUEUE_WAIT};

/// Bytes that belong to somebody else.
class Bytes {
public:
    constexpr Bytes() = default;
    constexpr Bytes(const void *data, std::size_t size) : data_(data), size_(size) {}
    Bytes(const char *text) : data_(text), size_(std::strlen(text)) {} // NOLINT: a body is text
    template <class C, class = decltype(std::declval<const C &>().data()),
        class = decltype(std::declval<const C &>().size())>
    Bytes(const C &container) // NOLINT: a body is any bytes
        : data_(container.data()), size_(container.size() * sizeof(*container.data())) {
        static_assert(std::is_trivially_copyable_v<std::decay_t<decltype(*container.data())>>,
            "only the bytes of trivially copyable elements mean something elsewhere");
    }

    [[nodiscard]] const void *data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] const std::uint8_t *begin() const noexcept {
        return static_cast<const std::uint8_t *>(data_);
    }
    [[nodiscard]] const std::uint8_t *end() const noexcept { return begin() + size_; }
    [[nodiscard]] std::string_view text() const noexcept {
        return {static_cast<const char *>(data_), size_};
    }
    /// The bytes as a value where they lie; nullptr where they are no value of T.
    template <class T> [[nodiscard]] const T *as() const noexcept {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        const bool fits = size_ == sizeof(T) &&
                          reinterpret_cast<std::uintptr_t>(data_) % alignof(T) == 0;
        return fits ? static_cast<const T *>(data_) : nullptr;
    }

private:
    const void *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Bytes to write to, that belong to somebody else.
class Buffer {
public:
    constexpr Buffer() = default;
    constexpr Buffer(void *data, std::size_t size) : data_(data), size_(size) {}
    template <class C, class = decltype(std::declval<C &>().data()),
        class = std::enable_if_t<!std::is_const_v<C>>>
    Buffer(C &container) // NOLINT: a buffer is any bytes
        : data_(container.data()), size_(container.size() * sizeof(*container.data())) {
        static_assert(std::is_trivially_copyable_v<std::decay_t<decltype(*container.data())>>,
            "only trivially copyable elements can be made of bytes");
    }
    template <class T, std::size_t N> Buffer(T (&array)[N]) // NOLINT: as above
        : data_(array), size_(sizeof(array)) {
        static_assert(std::is_trivially_copyable_v<T>, "as above");
    }
    [[nodiscard]] void *data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint8_t *begin() const noexcept { return static_cast<std::uint8_t *>(data_); }
    [[nodiscard]] std::uint8_t *end() const noexcept { return begin() + size_; }

private:
    void *data_ = nullptr;
    std::size_t size_ = 0;
};

/// A handle of ringway.h that is closed in time.
template <class C> class Handle {
public:
    Handle() = default;
    explicit Handle(C *handle) noexcept : handle_(handle) {}
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            close();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { close(); }

    /// Before its scope ends.
    void close() noexcept { ringway_close(std::exchange(handle_, nullptr)); }
    /// For calls of ringway.h.
    [[nodiscard]] C *get() const noexcept { return handle_; }
    explicit operator bool() const noexcept { return handle_ != nullptr; }

protected:
    C *handle_ = nullptr;
};

struct BusConfig : ringway_bus_config_t {
    BusConfig() : ringway_bus_config_t() { ringway_bus_config_init(this); }
};
struct ChannelConfig : ringway_channel_config_t {
    ChannelConfig() : ringway_channel_config_t() { ringway_channel_config_init(this); }
};
struct ReaderConfig : ringway_reader_config_t {
    ReaderConfig() : ringway_reader_config_t() { ringway_reader_config_init(this); }
};
struct QueueConfig : ringway_queue_config_t {
    QueueConfig() : ringway_queue_config_t() { ringway_queue_config_init(this); }
};
struct ReceiverConfig : ringway_receiver_config_t {
    ReceiverConfig() : ringway_receiver_config_t() { ringway_receiver_config_init(this); }
};
struct StreamConfig : ringway_stream_config_t {
    StreamConfig() : ringway_stream_config_t() { ringway_stream_config_init(this); }
};
struct StreamReaderConfig : ringway_stream_reader_config_t {
    StreamReaderConfig() : ringway_stream_reader_config_t() {
        ringway_stream_reader_config_init(this);
    }
};
struct TopicConfig : ringway_topic_config_t {
    TopicConfig() : ringway_topic_config_t() { ringway_topic_config_init(this); }
};
struct SubscriptionConfig : ringway_subscription_config_t {
    explicit SubscriptionConfig(const char *to, int32_t as = RINGWAY_TO_QUEUE)
        : ringway_subscription_config_t() {
        ringway_subscription_config_init(this);
        endpoint = to;
        protocol = as;
    }
};
struct ListenerConfig : ringway_listener_config_t {
    ListenerConfig() : ringway_listener_config_t() { ringway_listener_config_init(this); }
};
struct StreamProducerConfig : ringway_stream_producer_config_t {
    StreamProducerConfig() : ringway_stream_producer_config_t() {
        ringway_stream_producer_config_init(this);
    }
};
struct ChangeConfig : ringway_change_config_t {
    explicit ChangeConfig(enum ringway_change change) : ringway_change_config_t() {
        ringway_change_config_init(this);
        what = change;
    }
};
struct MoveConfig : ringway_move_config_t {
    MoveConfig() : ringway_move_config_t() { ringway_move_config_init(this); }
};
struct Settings : ringway_settings_t {
    Settings() : ringway_settings_t() { ringway_settings_init(this); }
};

using Record = ringway_record_t;
using Received = ringway_received_t;
using Receipt = ringway_receipt_t;
using Sent = ringway_sent_t;
using Published = ringway_published_t;
using SequenceNumber = ringway_sequence_number_t;
using StreamRecord = ringway_stream_record_t;

/// A receipt as text, to be sent elsewhere, and back.
[[nodiscard]] inline Result<std::string> to_text(const Receipt &receipt) {
    std::array<char, RINGWAY_RECEIPT_TEXT> text{};
    const int32_t status = ringway_receipt_format(&receipt, text.data(), text.size());
    return {status, std::string(text.data())};
}
[[nodiscard]] inline Result<Receipt> to_receipt(const char *text) {
    Receipt receipt{};
    const int32_t status = ringway_receipt_parse(text, &receipt);
    return {status, receipt};
}

/// A value and the message or record it came in.
template <class T, class About> struct Typed {
    About about;
    T value;
};

/// Bytes of the payload pool to fill; sent by a Producer or Sender.
class Loan : public Handle<ringway_loan_t> {
public:
    Loan() = default;
    Loan(ringway_loan_t *loan, void *data, std::size_t size)
        : Handle(loan), data_(data), size_(size) {}
    [[nodiscard]] void *data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint8_t *begin() const noexcept { return static_cast<std::uint8_t *>(data_); }
    [[nodiscard]] std::uint8_t *end() const noexcept { return begin() + size_; }
    /// The lent bytes as values; they hold what an earlier payload left.
    template <class T> [[nodiscard]] T *as() const noexcept {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        return static_cast<T *>(data_);
    }

private:
    template <class> friend class Lender;
    void sent() noexcept { handle_ = nullptr; }
    void *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Who lends bytes of the payload pool, and sends them: a Producer or a Sender.
template <class C> class Lender : public Handle<C> {
public:
    using Handle<C>::Handle;
    [[nodiscard]] Result<Loan> loan(std::size_t size) {
        ringway_loan_t *loan = nullptr;
        void *data = nullptr;
        const int32_t status = ringway_loan_open(this->handle_, size, &loan, &data);
        return {status, Loan(loan, data, size)};
    }
    /// Sends a loan, or the first bytes of it; where that fails the loan is there still.
    [[nodiscard]] Result<uint64_t> send(Loan &loan, std::size_t size) {
        uint64_t position = 0;
        const int32_t status = ringway_loan_send(this->handle_, loan.get(), size, &position);
        if (status == RINGWAY_OK) {
            loan.sent();
        }
        return {status, position};
    }
    [[nodiscard]] Result<uint64_t> send(Loan &loan) { return send(loan, loan.size()); }
};

// ---- Channels ------------------------------------------------------------------------------------

class Producer : public Lender<ringway_producer_t> {
public:
    using Lender::Lender;
    using Lender::send;
    /// Sends a record; its position.
    [[nodiscard]] Result<uint64_t> send(Bytes body, Wait wait = {}) {
        uint64_t position = 0;
        const int32_t status =
            ringway_producer_send(handle_, body.data(), body.size(), wait.ns(), &position);
        return {status, position};
    }
    template <class T> [[nodiscard]] Result<uint64_t> send_value(const T &value, Wait wait = {}) {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        return send(Bytes(&value, sizeof(T)), wait);
    }
    [[nodiscard]] Result<std::size_t> send_batch(const ringway_slice_t *bodies, std::size_t count) {
        std::size_t sent = 0;
        const int32_t status = ringway_producer_send_batch(handle_, bodies, count, &sent);
        return {status, sent};
    }
};

/// A record that stays in place while its reader goes on.
class PinnedRecord : public Handle<ringway_view_t> {
public:
    PinnedRecord() = default;
    PinnedRecord(ringway_view_t *view, Record record, const void *data)
        : Handle(view), record_(record), data_(data) {}
    [[nodiscard]] Bytes bytes() const noexcept { return {data_, record_.len}; }
    [[nodiscard]] const Record &record() const noexcept { return record_; }

private:
    Record record_{};
    const void *data_ = nullptr;
};

/// A record or a message looked at in place, until the scope of the view ends.
template <class Owner, class About> class View {
public:
    View() = default;
    View(Owner *owner, About about, Bytes bytes) : owner_(owner), about_(about), bytes_(bytes) {}
    View(View &&other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), about_(other.about_), bytes_(other.bytes_) {}
    View &operator=(View &&other) noexcept {
        if (this != &other) {
            end();
            owner_ = std::exchange(other.owner_, nullptr);
            about_ = other.about_;
            bytes_ = other.bytes_;
        }
        return *this;
    }
    View(const View &) = delete;
    View &operator=(const View &) = delete;
    ~View() { end(); }
    void end() noexcept {
        if (Owner *owner = std::exchange(owner_, nullptr)) {
            ringway_release(owner);
        }
    }
    [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }
    [[nodiscard]] const About &about() const noexcept { return about_; }

private:
    Owner *owner_ = nullptr;
    About about_{};
    Bytes bytes_;
};
namespace detail {
/// Everything that a call lists into an array.
template <class T, class List> Result<std::vector<T>> listed(List list) {
    std::vector<T> all;
    std::size_t count = 16;
    int32_t status = RINGWAY_OK;
    do {
        all.resize(count);
        status = list(all.data(), all.size(), &count);
    } while (status == RINGWAY_OK && count > all.size());
    all.resize(status == RINGWAY_OK ? count : 0);
    return {status, std::move(all)};
}
} // namespace detail
using RecordView = View<ringway_reader_t, Record>;
using MessageView = View<ringway_receiver_t, Received>;

class Reader : public Handle<ringway_reader_t> {
public:
    using Handle::Handle;
    /// Copies the next record. Lagged and too small: told() says how much.
    [[nodiscard]] Result<Record> read(Buffer buffer, Wait wait = {}) {
        Record record{};
        const int32_t status =
            ringway_reader_read(handle_, buffer.data(), buffer.size(), wait.ns(), &record);
        return {status, record};
    }
    /// A record of another size than T is RINGWAY_E_MISMATCH, and read.
    template <class T> [[nodiscard]] Result<Typed<T, Record>> read_value(Wait wait = {}) {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        Typed<T, Record> typed{};
        int32_t status =
            ringway_reader_read(handle_, &typed.value, sizeof(T), wait.ns(), &typed.about);
        if (status == RINGWAY_OK && typed.about.len != sizeof(T)) {
            status = RINGWAY_E_MISMATCH;
        }
        return {status, typed};
    }
    /// Up to `max` records; valid until the next call.
    [[nodiscard]] Result<std::vector<ringway_entry_t>> read_batch(std::size_t max, Wait wait = {}) {
        std::vector<ringway_entry_t> entries(max);
        std::size_t count = 0;
        const int32_t status =
            ringway_reader_read_batch(handle_, max, wait.ns(), entries.data(), &count);
        entries.resize(status == RINGWAY_OK ? count : 0);
        return {status, std::move(entries)};
    }
    [[nodiscard]] Result<RecordView> view(Wait wait = {}) {
        Record record{};
        const void *data = nullptr;
        const int32_t status = ringway_reader_view(handle_, wait.ns(), &record, &data);
        return {status, RecordView(status == RINGWAY_OK ? handle_ : nullptr, record, {data, record.len})};
    }
    [[nodiscard]] Result<PinnedRecord> pin(Wait wait = {}) {
        ringway_view_t *view = nullptr;
        Record record{};
        const void *data = nullptr;
        const int32_t status = ringway_reader_pin(handle_, wait.ns(), &view, &record, &data);
        return {status, PinnedRecord(view, record, data)};
    }
    [[nodiscard]] Result<int32_t> poll_fd() {
        int32_t fd = -1;
        const int32_t status = ringway_poll_fd(handle_, &fd);
        return {status, fd};
    }
};

class Channel : public Handle<ringway_channel_t> {
public:
    using Handle::Handle;
    [[nodiscard]] Result<Producer> producer() const {
        ringway_producer_t *producer = nullptr;
        const int32_t status = ringway_producer_open(handle_, &producer);
        return {status, Producer(producer)};
    }
    [[nodiscard]] Result<Reader> reader(const ReaderConfig &config = {}) const {
        ringway_reader_t *reader = nullptr;
        const int32_t status = ringway_reader_open(handle_, &config, &reader);
        return {status, Reader(reader)};
    }
    [[nodiscard]] Result<ringway_channel_stats_t> stats() const {
        ringway_channel_stats_t stats{};
        const int32_t status = ringway_channel_stats(handle_, &stats, sizeof stats);
        return {status, stats};
    }
};

// ---- Queues --------------------------------------------------------------------------------------

/// Attributes to send with messages, as often as you like. Borrows names and values; what is wrong with one
/// the send says.
class Attributes {
public:
    Attributes &string(const char *name, std::string_view value) {
        return add(name, RINGWAY_STRING, value);
    }
    /// A number as text: up to 38 digits.
    Attributes &number(const char *name, std::string_view value) {
        return add(name, RINGWAY_NUMBER, value);
    }
    Attributes &binary(const char *name, Bytes value) { return add(name, RINGWAY_BINARY, value); }
    [[nodiscard]] const std::vector<ringway_attribute_t> &all() const noexcept { return all_; }

private:
    Attributes &add(const char *name, int32_t type, Bytes value) {
        all_.push_back({name, nullptr, value.data(), value.size(), type, 0});
        return *this;
    }
    std::vector<ringway_attribute_t> all_;
};

/// A message and what is said about it; borrows everything.
class Outgoing {
public:
    explicit Outgoing(Bytes body) {
        ringway_outgoing_init(&c_);
        c_.body = body.data();
        c_.len = body.size();
    }
    Outgoing &group(const char *group) { return c_.group = group, *this; }
    Outgoing &dedup_id(const char *id) { return c_.dedup_id = id, *this; }
    Outgoing &trace_header(const char *header) { return c_.trace_header = header, *this; }
    Outgoing &attributes(const Attributes &of) {
        c_.attributes = of.all().data();
        c_.attribute_count = of.all().size();
        return *this;
    }
    /// Of what is published.
    Outgoing &subject(const char *subject) { return c_.subject = subject, *this; }
    /// Of what is published: the body is JSON, a text for each protocol.
    Outgoing &per_protocol() { return c_.per_protocol = RINGWAY_ON, *this; }
    Outgoing &delay(std::chrono::milliseconds delay) {
        return c_.delay_ms = static_cast<uint64_t>(delay.count()), *this;
    }
    [[nodiscard]] const ringway_outgoing_t *c() const noexcept { return &c_; }

private:
    ringway_outgoing_t c_{};
};

class Sender : public Lender<ringway_sender_t> {
public:
    using Lender::Lender;
    using Lender::send;
    /// Sends a message; its position.
    [[nodiscard]] Result<uint64_t> send(Bytes body, Wait wait = {}) {
        uint64_t position = 0;
        const int32_t status =
            ringway_sender_send(handle_, body.data(), body.size(), wait.ns(), &position);
        return {status, position};
    }
    template <class T> [[nodiscard]] Result<uint64_t> send_value(const T &value, Wait wait = {}) {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        return send(Bytes(&value, sizeof(T)), wait);
    }
    [[nodiscard]] Result<Sent> send(const Outgoing &message) {
        Sent sent{};
        const int32_t status = ringway_sender_send_message(handle_, message.c(), &sent);
        return {status, sent};
    }
    [[nodiscard]] Result<std::size_t> send_batch(const ringway_slice_t *bodies, std::size_t count) {
        std::size_t sent = 0;
        const int32_t status = ringway_sender_send_batch(handle_, bodies, count, &sent);
        return {status, sent};
    }
};

/// Memory for messages received whole.
class Message : public Handle<ringway_message_t> {
public:
    using Handle::Handle;
    [[nodiscard]] static Result<Message> make() {
        ringway_message_t *message = nullptr;
        const int32_t status = ringway_message_open(&message);
        return {status, Message(message)};
    }
    /// What lies in it; pointers are into it.
    [[nodiscard]] Result<ringway_message_parts_t> parts() const {
        ringway_message_parts_t parts{};
        const int32_t status = ringway_message_parts(handle_, &parts, sizeof parts);
        return {status, parts};
    }
    [[nodiscard]] Bytes body() const {
        auto all = parts().value();
        return {all.body, all.len};
    }
    /// The attribute that is called so; it points into the message.
    [[nodiscard]] Result<ringway_attribute_t> attribute(const char *name) const {
        auto all = parts();
        if (!all) {
            return {all.status(), {}};
        }
        const ringway_attribute_t *found = ringway_message_attribute(&all.told(), name);
        return {found != nullptr ? RINGWAY_OK : RINGWAY_E_NOT_FOUND,
            found != nullptr ? *found : ringway_attribute_t{}};
    }
};

class Receiver : public Handle<ringway_receiver_t> {
public:
    using Handle::Handle;
    /// Receives a message and copies its body. Too small: told().len bytes are needed.
    [[nodiscard]] Result<Received> receive(Buffer buffer, Wait wait = {}) {
        Received received{};
        const int32_t status =
            ringway_receiver_receive(handle_, buffer.data(), buffer.size(), wait.ns(), &received);
        return {status, received};
    }
    [[nodiscard]] Result<Received> consume(Buffer buffer, Wait wait = {}) {
        Received received{};
        const int32_t status =
            ringway_receiver_consume(handle_, buffer.data(), buffer.size(), wait.ns(), &received);
        return {status, received};
    }
    /// A message that is shorter than a T is RINGWAY_E_MISMATCH, and leased: told().about has its
    /// receipt.
    template <class T> [[nodiscard]] Result<Typed<T, Received>> receive_value(Wait wait = {}) {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types are bytes");
        Typed<T, Received> typed{};
        int32_t status =
            ringway_receiver_receive(handle_, &typed.value, sizeof(T), wait.ns(), &typed.about);
        if (status == RINGWAY_OK && typed.about.len != sizeof(T)) {
            status = RINGWAY_E_MISMATCH;
        }
        return {status, typed};
    }
    /// Up to `max` messages; bodies are valid until the next call.
    [[nodiscard]] Result<std::vector<ringway_delivery_t>> receive_batch(
        std::size_t max, Wait wait = {}) {
        std::vector<ringway_delivery_t> deliveries(max);
        std::size_t count = 0;
        const int32_t status =
            ringway_receiver_receive_batch(handle_, max, wait.ns(), deliveries.data(), &count);
        deliveries.resize(status == RINGWAY_OK ? count : 0);
        return {status, std::move(deliveries)};
    }
    [[nodiscard]] Result<Received> receive(Message &message, Wait wait = {}) {
        Received received{};
        const int32_t status =
            ringway_receiver_receive_message(handle_, message.get(), wait.ns(), &received);
        return {status, received};
    }
    [[nodiscard]] Result<MessageView> view(Wait wait = {}) {
        ringway_delivery_t delivery{};
        const int32_t status = ringway_receiver_view(handle_, wait.ns(), &delivery);
        return {status, MessageView(status == RINGWAY_OK ? handle_ : nullptr, delivery.received,
                            {delivery.body, delivery.received.len})};
    }
    [[nodiscard]] Result<void> remove(const Receipt &receipt) {
        return Result<void>(ringway_receiver_delete(handle_, &receipt));
    }
    [[nodiscard]] Result<void> remove(const std::vector<Receipt> &receipts) {
        return Result<void>(ringway_receiver_delete_batch(
            handle_, receipts.data(), receipts.size(), nullptr, nullptr));
    }
    [[nodiscard]] Result<int32_t> poll_fd() {
        int32_t fd = -1;
        const int32_t status = ringway_poll_fd(handle_, &fd);
        return {status, fd};
    }
};

class Queue : public Handle<ringway_queue_t> {
public:
    using Handle::Handle;
    [[nodiscard]] Result<Sender> sender() const {
        ringway_sender_t *sender = nullptr;
        const int32_t status = ringway_sender_open(handle_, &sender);
        return {status, Sender(sender)};
    }
    [[nodiscard]] Result<Receiver> receiver(const ReceiverConfig &config = {}) const {
        ringway_receiver_t *receiver = nullptr;
        const int32_t status = ringway_receiver_open(handle_, &config, &receiver);
        return {status, Receiver(receiver)};
    }
    /// Its number: what the settings of others name it by.
    [[nodiscard]] Result<uint64_t> id() const {
        auto all = settings();
        return {all.status(), all.told().id};
    }
    /// Waits until all of it is on disk.
    [[nodiscard]] Result<void> flush() const {
        return Result<void>(ringway_queue_flush(handle_));
    }
    /// Moves its messages to another queue, or back to where they came from.
    [[nodiscard]] Result<ringway_move_status_t> move(const MoveConfig &config, Wait wait) const {
        ringway_move_status_t moved{};
        const int32_t status =
            ringway_queue_move(handle_, &config, wait.ns(), &moved, sizeof moved);
        return {status, moved};
    }
    [[nodiscard]] Result<ringway_queue_stats_t> stats() const {
        ringway_queue_stats_t stats{};
        const int32_t status = ringway_queue_stats(handle_, &stats, sizeof stats);
        return {status, stats};
    }
    [[nodiscard]] Result<Settings> settings() const {
        Settings settings;
        const int32_t status = ringway_queue_settings(handle_, &settings, sizeof settings);
        return {status, settings};
    }
    [[nodiscard]] Result<void> set(const Settings &settings) const {
        return Result<void>(ringway_queue_set(handle_, &settings));
    }
    /// Messages that are not offered any more.
    [[nodiscard]] Result<std::vector<ringway_parked_t>> parked() const {
        return detail::listed<ringway_parked_t>([&](auto *all, auto capacity, auto *count) {
            return ringway_queue_parked(handle_, all, capacity, count);
        });
    }
    /// The body of one of them. It stays: send it, then delete_parked, to put it back into the queue.
    [[nodiscard]] Result<std::string> read_parked(uint64_t position) const {
        std::string body;
        std::size_t len = 0;
        int32_t status =
            ringway_queue_read_parked(handle_, position, 0, nullptr, 0, &len);
        if (status == RINGWAY_E_BUFFER_TOO_SMALL) {
            body.resize(len);
            status = ringway_queue_read_parked(handle_, position, 0, body.data(), len, &len);
        }
        return {status, std::move(body)};
    }
    [[nodiscard]] Result<void> delete_parked(uint64_t position) const {
        return Result<void>(ringway_queue_read_parked(handle_, position, 1, nullptr, 0, nullptr));
    }
    [[nodiscard]] Result<uint64_t> purge() const {
        uint64_t purged = 0;
        const int32_t status = ringway_queue_purge(handle_, &purged);
        return {status, purged};
    }
    [[nodiscard]] Result<void> remove(const Receipt &receipt) const {
        return Result<void>(ringway_queue_delete(handle_, &receipt));
    }
    [[nodiscard]] Result<void> extend(
        const Receipt &receipt, std::chrono::milliseconds visibility) const {
        return Result<void>(
            ringway_queue_extend(handle_, &receipt, static_cast<uint64_t>(visibility.count())));
    }
    [[nodiscard]] Result<void> nack(
        const Receipt &receipt, std::chrono::milliseconds delay = {}) const {
        return Result<void>(
            ringway_queue_nack(handle_, &receipt, static_cast<uint64_t>(delay.count())));
    }
};

// ---- Streams -------------------------------------------------------------------------------------

/// A record to put; borrows everything.
struct Put : ringway_put_t {
    Put(const char *key, Bytes bytes) : ringway_put_t{key, bytes.data(), bytes.size(), nullptr} {}
};

class StreamProducer : public Handle<ringway_stream_producer_t> {
public:
    using Handle::Handle;
    /// Puts a record; its number.
    [[nodiscard]] Result<SequenceNumber> put(const Put &record, Wait wait = {}) {
        ringway_put_outcome_t outcome{};
        const int32_t status = ringway_stream_put(handle_, &record, wait.ns(), &outcome);
        return {status, outcome.sequence_number};
    }
    [[nodiscard]] Result<SequenceNumber> put(const char *key, Bytes data, Wait wait = {}) {
        return put(Put(key, data), wait);
    }
    /// Puts records; what became of each.
    [[nodiscard]] Result<std::vector<ringway_put_outcome_t>> put_batch(
        const std::vector<ringway_put_t> &records, Wait wait = {}) {
        std::vector<ringway_put_outcome_t> outcomes(records.size());
        const int32_t status = ringway_stream_put_batch(
            handle_, records.data(), records.size(), wait.ns(), outcomes.data());
        return {status, std::move(outcomes)};
    }
    /// Puts what a producer that aggregates has gathered, and waits for the stream's disk, if it has one.
    [[nodiscard]] Result<void> flush(Wait wait = {}) {
        return Result<void>(ringway_stream_flush(handle_, wait.ns()));
    }
};

/// Alone, a worker of a group, or a registered consumer.
class StreamReader : public Handle<ringway_stream_reader_t> {
public:
    using Handle::Handle;
    /// Up to `max` records; valid until the next call. Lagged: told()[0].missed says how much.
    [[nodiscard]] Result<std::vector<StreamRecord>> read(std::size_t max, Wait wait = {}) {
        std::vector<StreamRecord> records(max);
        std::size_t count = 0;
        const int32_t status =
            ringway_stream_read(handle_, max, wait.ns(), records.data(), &count);
        records.resize(status == RINGWAY_OK ? count : status == RINGWAY_LAGGED ? 1 : 0);
        return {status, std::move(records)};
    }
    /// Done with everything that was read.
    [[nodiscard]] Result<void> checkpoint() {
        return Result<void>(ringway_stream_checkpoint(handle_, nullptr));
    }
    /// Done with this record and all before it in its shard.
    [[nodiscard]] Result<void> checkpoint(const SequenceNumber &number) {
        return Result<void>(ringway_stream_checkpoint(handle_, &number));
    }
};

class Stream : public Handle<ringway_stream_t> {
public:
    using Handle::Handle;
    [[nodiscard]] Result<StreamProducer> producer(const StreamProducerConfig &config = {}) const {
        ringway_stream_producer_t *producer = nullptr;
        const int32_t status = ringway_stream_producer_open(handle_, &config, &producer);
        return {status, StreamProducer(producer)};
    }
    /// Puts many small records as one: what it gathers is put in time, or by flush().
    [[nodiscard]] Result<StreamProducer> aggregating() const {
        StreamProducerConfig config;
        config.aggregate = RINGWAY_ON;
        return producer(config);
    }
    [[nodiscard]] Result<StreamReader> reader(const StreamReaderConfig &config = {}) const {
        ringway_stream_reader_t *reader = nullptr;
        const int32_t status = ringway_stream_reader_open(handle_, &config, &reader);
        return {status, StreamReader(reader)};
    }
    /// Becomes a worker of a group, which is made if there is none.
    [[nodiscard]] Result<StreamReader> worker(const char *group) const {
        StreamReaderConfig config;
        config.group = group;
        return reader(config);
    }
    /// Reads as a registered consumer; one reader at a time, unless it takes over.
    [[nodiscard]] Result<StreamReader> consumer(const char *name,
        int32_t iterator = RINGWAY_LATEST, bool take_over = false) const {
        StreamReaderConfig config;
        config.consumer = name;
        config.iterator = iterator;
        config.take_over = take_over ? RINGWAY_ON : RINGWAY_OFF;
        return reader(config);
    }
    /// Any change, by its config; those below are the shorter ones.
    [[nodiscard]] Result<ringway_changed_t> change(const ChangeConfig &config) const {
        ringway_changed_t changed{};
        const int32_t status = ringway_stream_change(handle_, &config, &changed);
        return {status, changed};
    }
    /// Splits a shard, in the middle or at a hash key; the two.
    [[nodiscard]] Result<std::array<uint64_t, 2>> split(
        uint64_t shard, const ringway_hash_key_t *at = nullptr) const {
        ChangeConfig config(RINGWAY_SPLIT);
        config.shard = shard;
        config.hash_key = at;
        auto done = change(config);
        return {done.status(), {done.told().shards[0], done.told().shards[1]}};
    }
    /// Merges two shards whose hash keys follow each other; the one.
    [[nodiscard]] Result<uint64_t> merge(uint64_t shard, uint64_t second) const {
        ChangeConfig config(RINGWAY_MERGE);
        config.shard = shard;
        config.second = second;
        auto done = change(config);
        return {done.status(), done.told().shards[0]};
    }
    /// Splits and merges until so many shards are open; how many changes that took.
    [[nodiscard]] Result<uint64_t> scale(uint64_t count) const {
        ChangeConfig config(RINGWAY_SCALE);
        config.count = count;
        auto done = change(config);
        return {done.status(), done.told().count};
    }
    /// Gives back the memory of closed shards that everybody has read; of how many.
    [[nodiscard]] Result<uint64_t> retire() const {
        auto done = change(ChangeConfig(RINGWAY_RETIRE));
        return {done.status(), done.told().count};
    }
    /// Keeps the records of a durable stream so long.
    [[nodiscard]] Result<void> retain(std::chrono::milliseconds age) const {
        ChangeConfig config(RINGWAY_RETAIN);
        config.retention_ms = static_cast<uint64_t>(age.count());
        return Result<void>(change(config).status());
    }
    /// Registers a consumer; `behind` is enum ringway_behind.
    [[nodiscard]] Result<void> register_consumer(
        const char *name, int32_t behind = RINGWAY_BEHIND_BLOCK) const {
        ChangeConfig config(RINGWAY_REGISTER);
        config.name = name;
        config.behind = behind;
        return Result<void>(change(config).status());
    }
    [[nodiscard]] Result<void> deregister_consumer(const char *name) const {
        ChangeConfig config(RINGWAY_DEREGISTER);
        config.name = name;
        return Result<void>(change(config).status());
    }
    [[nodiscard]] Result<void> remove_group(const char *name) const {
        ChangeConfig config(RINGWAY_REMOVE_GROUP);
        config.name = name;
        return Result<void>(change(config).status());
    }
    [[nodiscard]] Result<std::vector<ringway_consumer_info_t>> consumers() const {
        return detail::listed<ringway_consumer_info_t>([&](auto *all, auto capacity, auto *count) {
            return ringway_stream_consumers(handle_, all, capacity, count);
        });
    }
    [[nodiscard]] Result<std::vector<ringway_shard_info_t>> shards() const {
        return detail::listed<ringway_shard_info_t>([&](auto *all, auto capacity, auto *count) {
            return ringway_stream_shards(handle_, all, capacity, count);
        });
    }
    [[nodiscard]] Result<ringway_stream_stats_t> stats() const {
        ringway_stream_stats_t stats{};
        const int32_t status = ringway_stream_stats(handle_, &stats, sizeof stats);
        return {status, stats};
    }
};

// ---- Topics --------------------------------------------------------------------------------------

class Publisher : public Handle<ringway_publisher_t> {
public:
    using Handle::Handle;
    [[nodiscard]] Result<Published> publish(const Outgoing &message, Wait wait = {}) {
        Published published{};
        const int32_t status =
            ringway_publisher_publish(handle_, message.c(), wait.ns(), &published);
        return {status, published};
    }
    /// Publishes messages; what became of each.
    [[nodiscard]] Result<std::vector<Published>> publish_batch(
        const std::vector<ringway_outgoing_t> &messages, Wait wait = {}) {
        std::vector<Published> published(messages.size());
        const int32_t status = ringway_publisher_publish_batch(
            handle_, messages.data(), messages.size(), wait.ns(), published.data());
        return {status, std::move(published)};
    }
};

class Listener : public Handle<ringway_listener_t> {
public:
    using Handle::Handle;
    /// Hears the next message. Lagged: told() positions were lost.
    [[nodiscard]] Result<uint64_t> hear(Message &message, Wait wait = {}) {
        uint64_t missed = 0;
        const int32_t status = ringway_listener_hear(handle_, message.get(), wait.ns(), &missed);
        return {status, missed};
    }
    [[nodiscard]] Result<int32_t> poll_fd() {
        int32_t fd = -1;
        const int32_t status = ringway_poll_fd(handle_, &fd);
        return {status, fd};
    }
};

class Topic : public Handle<ringway_topic_t> {
public:
    using Handle::Handle;
    [[nodiscard]] Result<Publisher> publisher() const {
        ringway_publisher_t *publisher = nullptr;
        const int32_t status = ringway_publisher_open(handle_, &publisher);
        return {status, Publisher(publisher)};
    }
    [[nodiscard]] Result<Listener> listener(const ListenerConfig &config = {}) const {
        ringway_listener_t *listener = nullptr;
        const int32_t status = ringway_listener_open(handle_, &config, &listener);
        return {status, Listener(listener)};
    }
    /// Subscribes a queue or a stream; the subscription's number.
    [[nodiscard]] Result<uint64_t> subscribe(const SubscriptionConfig &config) const {
        uint64_t id = 0;
        const int32_t status = ringway_topic_subscribe(handle_, &config, &id);
        return {status, id};
    }
    [[nodiscard]] Result<void> unsubscribe(uint64_t id) const {
        return Result<void>(ringway_topic_unsubscribe(handle_, id));
    }
    [[nodiscard]] Result<std::vector<ringway_subscription_t>> subscriptions() const {
        return detail::listed<ringway_subscription_t>([&](auto *all, auto capacity, auto *count) {
            return ringway_topic_subscriptions(handle_, all, capacity, count);
        });
    }
    [[nodiscard]] Result<ringway_topic_stats_t> stats() const {
        ringway_topic_stats_t stats{};
        const int32_t status = ringway_topic_stats(handle_, &stats, sizeof stats);
        return {status, stats};
    }
};

// ---- Buses ---------------------------------------------------------------------------------------

class Bus : public Handle<ringway_bus_t> {
public:
    using Handle::Handle;
    [[nodiscard]] static Result<Bus> open(const char *name, const BusConfig &config = {}) {
        ringway_bus_t *bus = nullptr;
        const int32_t status = ringway_bus_open(name, &config, &bus);
        return {status, Bus(bus)};
    }
    [[nodiscard]] static Result<void> destroy(
        const char *name, const BusConfig &config = {}, bool force = false) {
        return Result<void>(ringway_bus_destroy(name, &config, force ? 1 : 0));
    }
    [[nodiscard]] Result<Channel> channel(const char *name, const ChannelConfig &config = {}) const {
        ringway_channel_t *channel = nullptr;
        const int32_t status = ringway_channel_open(handle_, name, &config, &channel);
        return {status, Channel(channel)};
    }
    [[nodiscard]] Result<Queue> queue(const char *name, const QueueConfig &config = {}) const {
        ringway_queue_t *queue = nullptr;
        const int32_t status = ringway_queue_open(handle_, name, &config, &queue);
        return {status, Queue(queue)};
    }
    [[nodiscard]] Result<Stream> stream(const char *name, const StreamConfig &config = {}) const {
        ringway_stream_t *stream = nullptr;
        const int32_t status = ringway_stream_open(handle_, name, &config, &stream);
        return {status, Stream(stream)};
    }
    [[nodiscard]] Result<Topic> topic(const char *name, const TopicConfig &config = {}) const {
        ringway_topic_t *topic = nullptr;
        const int32_t status = ringway_topic_open(handle_, name, &config, &topic);
        return {status, Topic(topic)};
    }
    /// A topic where kind is RINGWAY_TOPIC; else what else is called so.
    [[nodiscard]] Result<void> remove(const char *name, int32_t kind = 0) const {
        return Result<void>(ringway_bus_remove(handle_, name, kind));
    }
    /// Which topics may deliver to a queue, JSON as in SQS; nullptr: all.
    [[nodiscard]] Result<void> set_queue_policy(const char *queue, const char *policy) const {
        return Result<void>(ringway_bus_set_queue_policy(handle_, queue, policy));
    }
    /// What was said so; "": nothing.
    [[nodiscard]] Result<std::string> queue_policy(const char *queue) const {
        std::string policy;
        std::size_t len = 0;
        int32_t status = RINGWAY_E_BUFFER_TOO_SMALL;
        // Somebody may say something longer in between.
        while (status == RINGWAY_E_BUFFER_TOO_SMALL) {
            policy.resize(len + 1);
            status = ringway_bus_queue_policy(handle_, queue, &policy[0], policy.size(), &len);
        }
        policy.resize(status == RINGWAY_OK ? len : 0);
        return {status, std::move(policy)};
    }
    [[nodiscard]] Result<std::vector<ringway_object_info_t>> objects() const {
        return detail::listed<ringway_object_info_t>([&](auto *all, auto capacity, auto *count) {
            return ringway_bus_objects(handle_, all, capacity, count);
        });
    }
};

/// Waits until one of several readers, receivers and listeners has something; its number in the list.
template <class... Waiting>
[[nodiscard]] Result<std::size_t> wait_any(Wait wait, Waiting &...waiting) {
    const std::array<void *, sizeof...(Waiting)> all = {waiting.get()...};
    std::size_t ready = 0;
    const int32_t status = ringway_wait_any(all.data(), all.size(), wait.ns(), &ready);
    return {status, ready};
}

/// Pins the calling thread to a core.
[[nodiscard]] inline Result<void> pin_thread(uint32_t core) {
    return Result<void>(ringway_pin_thread(core));
}

} // namespace ringway

#endif // RINGWAY_HPP
