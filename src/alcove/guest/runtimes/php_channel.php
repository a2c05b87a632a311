<?php
// The PHP runtime's end of a channel (wire/frame.py): frames on a descriptor that leads to the host, or on a socket
// between the runtime and one of its workers.
declare(strict_types=1);

namespace Alcove;

const READY = 16;
const LOAD = 17;
const LOADED = 18;
const INVOKE = 19;
const RESULT = 20;
const FAILURE = 21;
const HOOK = 22;
const DONE = 23;
const UNLOAD = 24;
const PING = 25;
const PONG = 26;
const STREAM = 27;
const CHUNK = 28;
const END = 29;
const HEADER = 9;
const MAX_PAYLOAD = 6 * 1024 * 1024 + 64 * 1024;
const MAX_CHUNK = 64 * 1024;
// How soon a port is looked at again when the host's daemon is away.
const AWAY_US = 20000;

/** The other end is closed: a socket's, for on a port nothing to read means that the host's daemon restarts. */
final class Closed extends \Exception
{
}

final class Channel
{
    private bool $isPort = false;

    /** @param resource $stream */
    public function __construct(public $stream, private readonly int $fd = -1)
    {
        $this->prepare();
    }

    public static function ofDescriptor(int $fd): self
    {
        $channel = new self(fopen("php://fd/{$fd}", 'r+'), $fd);
        $channel->isPort = str_starts_with((string) @readlink("/proc/self/fd/{$fd}"), '/dev/');
        return $channel;
    }

    /** Return the two ends of a new one. */
    public static function pair(): array
    {
        $ends = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        foreach ($ends as $end) {
            // A worker may wait for its next request as long as it likes.
            stream_set_timeout($end, -1);
        }
        return [new self($ends[0]), new self($ends[1])];
    }

    public function close(): void
    {
        fclose($this->stream);
    }

    /** Return kind, id and payload of the next frame. */
    public function receive(): array
    {
        for (;;) {
            $header = $this->read(HEADER);
            if ($header === null) {
                continue; // the next host begins with a frame of its own
            }
            ['length' => $length, 'kind' => $kind, 'id' => $id] = unpack('Nlength/Ckind/Nid', $header);
            if ($length > MAX_PAYLOAD) {
                fwrite(STDERR, "alcove: a frame of {$length} bytes is over the limit\n");
                exit(65);
            }
            $payload = $length ? $this->read($length) : '';
            if ($payload !== null) {
                return [$kind, $id, $payload];
            }
        }
    }

    public function send(int $kind, int $id, string $payload): void
    {
        $data = pack('NCN', strlen($payload), $kind, $id) . $payload;
        for ($written = 0; $written < strlen($data);) {
            $count = @fwrite($this->stream, $written ? substr($data, $written) : $data);
            if ($count === false && $this->fd < 0) {
                throw new Closed();
            }
            if (!$count) {
                usleep(1000);
            }
            $written += (int) $count;
        }
    }

    /** Return so many bytes; null where the host went away in the middle of them. */
    private function read(int $count): ?string
    {
        $data = '';
        while (strlen($data) < $count) {
            $chunk = fread($this->stream, min($count - strlen($data), 1 << 20));
            if ($chunk !== false && $chunk !== '') {
                $data .= $chunk;
                continue;
            }
            if (!$this->isPort) {
                throw new Closed();
            }
            usleep(AWAY_US);
            // A stream that has seen an end reads no more.
            fclose($this->stream);
            $this->stream = fopen("php://fd/{$this->fd}", 'r+');
            $this->prepare();
            if ($data !== '') {
                return null;
            }
        }
        return $data;
    }

    private function prepare(): void
    {
        stream_set_read_buffer($this->stream, 0);
        stream_set_write_buffer($this->stream, 0);
    }
}
