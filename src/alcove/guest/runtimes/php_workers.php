<?php
// Requests that share a PHP runtime: each in a process of its own, forked after the function's init code, as PHP-FPM
// keeps workers. The runtime then only hands frames to and fro: a worker's answer is read whole before it goes on to the
// host, so that no worker can break another's frames, and one that dies has answered or is answered for.
declare(strict_types=1);

namespace Alcove;

// How long a worker whose socket is closed may take to end by itself.
const LAST_MOMENTS_US = 50000;
// How soon a worker is missed whose socket some process of its own holds open.
const PATIENCE_S = 1;
const SIGNALS = [6 => 'aborted', 9 => 'killed', 11 => 'segmentation fault', 15 => 'terminated'];

/** One process; ``$id`` is that of the frame it answers, 0: none. */
final class Worker
{
    public int $id = 0;
    public string $requestId = '';
    public bool $streaming = false;
    public bool $missed = false; // it had ended when it was last looked at
    public bool $ending = false; // it answers no request but the one that it has
    private ?int $status = null; // what it ended with

    public function __construct(public readonly int $pid, public readonly Channel $channel)
    {
    }

    public function begin(int $id, string $requestId, string $payload): void
    {
        [$this->id, $this->requestId, $this->streaming] = [$id, $requestId, false];
        $this->channel->send(INVOKE, $id, $payload);
    }

    /** Hand on one frame of its answer. */
    public function forward(Channel $host): void
    {
        [$kind, , $payload] = $this->channel->receive();
        if ($kind === UNLOAD) {
            $this->ending = true;
            return;
        }
        $this->streaming = $kind === STREAM || $kind === CHUNK;
        $host->send($kind, $this->id, $payload);
        if (!$this->streaming) {
            $this->id = 0;
        }
    }

    public function hasEnded(): bool
    {
        if ($this->status === null && pcntl_waitpid($this->pid, $status, WNOHANG) !== 0) {
            $this->status = $status;
        }
        return $this->status !== null;
    }

    /** Wait for its end, and say what it was. */
    public function bury(): string
    {
        $this->channel->close();
        for ($waited = 0; !$this->hasEnded(); $waited += 1000) {
            if ($waited >= LAST_MOMENTS_US) {
                posix_kill($this->pid, SIGKILL);
            }
            usleep(1000);
        }
        if (!pcntl_wifsignaled($this->status)) {
            return 'exit status ' . pcntl_wexitstatus($this->status);
        }
        $signal = pcntl_wtermsig($this->status);
        return 'signal: ' . (SIGNALS[$signal] ?? $signal);
    }
}

final class Workers
{
    /** @var Worker[] by process */
    private array $all = [];

    public function __construct(private readonly Channel $host)
    {
    }

    /**
     * Have a worker answer the request, a new one where all are busy: the host says how many that may be. In the new
     * process this returns its channel, where the request waits; in the runtime null.
     */
    public function take(int $id, string $requestId, string $payload): ?Channel
    {
        $idle = array_filter($this->all, fn (Worker $worker) => $worker->id === 0 && !$worker->ending);
        $worker = reset($idle);
        if ($worker === false) {
            // Those whose end takes its time do not become many.
            foreach (array_filter($this->all, fn (Worker $worker) => $worker->id === 0) as $late) {
                $this->lose($late);
            }
            [$ours, $theirs] = Channel::pair();
            $pid = pcntl_fork();
            if ($pid === 0) {
                $this->leave();
                $ours->close();
                return $theirs;
            }
            $theirs->close();
            if ($pid < 0) {
                $ours->close();
                $this->tell($id, $requestId, false, 'no more processes');
                return null;
            }
            $worker = $this->all[$pid] = new Worker($pid, $ours);
        }
        try {
            $worker->begin($id, $requestId, $payload);
        } catch (Closed) {
            $this->lose($worker);
        }
        return null;
    }

    /** Hand on what workers answer, until the host has something to say. */
    public function serve(): void
    {
        do {
            $ready = $this->all ? $this->wait() : ['host' => true];
            foreach (array_intersect_key($this->all, $ready) as $worker) {
                try {
                    $worker->forward($this->host);
                } catch (Closed) {
                    $this->lose($worker);
                }
            }
        } while (!isset($ready['host']));
    }

    /** Return those that have something to say, by process, and ``host``. */
    private function wait(): array
    {
        $ready = array_map(fn (Worker $worker) => $worker->channel->stream, $this->all);
        $ready['host'] = $this->host->stream;
        $busy = array_filter($this->all, fn (Worker $worker) => $worker->id !== 0);
        $none = null;
        if (@stream_select($ready, $none, $none, $busy ? PATIENCE_S : null)) {
            return $ready;
        }
        foreach ($busy as $worker) {
            // What it had said before it ended has been heard by the second time.
            if ($worker->missed) {
                $this->lose($worker);
            }
            $worker->missed = $worker->hasEnded();
        }
        return [];
    }

    /** It has died; the next request that needs a worker gets a new one. */
    private function lose(Worker $worker): void
    {
        unset($this->all[$worker->pid]);
        $end = $worker->bury();
        if ($worker->id !== 0) {
            $this->tell($worker->id, $worker->requestId, $worker->streaming, $end);
        }
    }

    private function tell(int $id, string $requestId, bool $streaming, string $why): void
    {
        $message = "RequestId: {$requestId} Error: Runtime exited with error: {$why}";
        $this->host->send($streaming ? END : FAILURE, $id, failure('Runtime.ExitError', $message, []));
        mark($requestId);
    }

    /** End with the runtime. */
    public function end(): void
    {
        foreach ($this->all as $worker) {
            posix_kill($worker->pid, SIGKILL);
        }
    }

    /** A worker has none of its own, and no business with the others or the host. */
    private function leave(): void
    {
        foreach ($this->all as $worker) {
            $worker->channel->close();
        }
        $this->all = [];
        $this->host->close();
    }
}
