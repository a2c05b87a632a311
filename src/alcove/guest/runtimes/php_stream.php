<?php
// Streamed answers of PHP functions: what a handler yields goes to the host part by part.
//
// A handler that is a generator, or returns one, streams: each item is a string, of any bytes. Where the first item is
// an array it is the head of an HTTP answer (statusCode, headers, cookies), framed as AWS's runtimes for other languages
// frame it. AWS has no runtime for PHP: this is as our Python has it.
declare(strict_types=1);

namespace Alcove;

const BYTES = 'application/octet-stream';
const HTTP_INTEGRATION = 'application/vnd.awslambda.http-integration-response';

/** Sends the parts of one answer; ``$begun`` tells whether the host knows of it yet. */
final class AnswerWriter
{
    public bool $begun = false;

    public function __construct(private readonly Channel $channel, private readonly int $id)
    {
    }

    /** Throws what the generator throws, and ``TypeError`` for what is no string. */
    public function sendAll(\Generator $items): void
    {
        foreach ($items as $item) {
            if (!$this->begun && is_array($item)) {
                $this->begin(HTTP_INTEGRATION);
                $this->send(serialise($item ?: new \stdClass()) . str_repeat("\0", 8));
                continue;
            }
            if (!is_string($item) && !$item instanceof \Stringable) {
                throw new \TypeError('a streamed answer is made of strings, not of ' . get_debug_type($item));
            }
            $this->begin(BYTES);
            $this->send((string) $item);
        }
        $this->begin(BYTES);
    }

    private function begin(string $type): void
    {
        if (!$this->begun) {
            $this->begun = true;
            $this->channel->send(STREAM, $this->id, $type);
        }
    }

    private function send(string $data): void
    {
        for ($start = 0; $start < strlen($data); $start += MAX_CHUNK) {
            $this->channel->send(CHUNK, $this->id, substr($data, $start, MAX_CHUNK));
        }
    }
}
