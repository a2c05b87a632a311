<?php
// The PHP runtime: loads a handler, calls it, answers, one request at a time unless requests are said to be shared: those
// are handed to workers, which are this runtime again with a channel of their own.
//
// The counterpart of python.py: the same frames, the same order of things. Handlers are as Baidu CFC has them:
// "index.handler" is the function handler($event, $context) of index.php.
declare(strict_types=1);

namespace Alcove;

require __DIR__ . '/php_channel.php';
require __DIR__ . '/php_output.php';
require __DIR__ . '/php_stream.php';
require __DIR__ . '/php_workers.php';

const MAX_RESULT = 6 * 1024 * 1024;
const MAX_MESSAGE = 65536;
const MAX_FRAMES = 64;
const DEFAULTS = [
    'LANG' => 'C.UTF-8',
    'TZ' => ':UTC',
    'PATH' => '/usr/local/bin:/usr/bin:/bin:/opt/bin',
    'HOME' => '/tmp',
    'LD_LIBRARY_PATH' => '/var/task/lib:/opt/lib',
    'LAMBDA_RUNTIME_DIR' => '/opt/alcove',
    'AWS_EXECUTION_ENV' => 'AWS_Lambda_php8.2',
    'AWS_LAMBDA_INITIALIZATION_TYPE' => 'on-demand',
];

// Ours alone: a function may close STDERR.
define('Alcove\ERRORS', fopen('php://stderr', 'wb'));

/** The handler's second argument: names of AWS's and of Baidu CFC's contexts, as properties or array keys. */
final class Context implements \ArrayAccess, \JsonSerializable
{
    private array $values;
    private int $deadline;

    public function __construct(array $load, array $call)
    {
        $client = $call['client_context'] ? json_decode((string) $call['client_context'], true) : null;
        $this->values = [
            'functionName' => $load['function_name'],
            'functionVersion' => $load['version'],
            'functionBrn' => $call['arn'],
            'invokedFunctionArn' => $call['arn'],
            'memoryLimitInMB' => (string) $load['memory_mib'],
            'requestId' => $call['request_id'],
            'awsRequestId' => $call['request_id'],
            'logGroupName' => $load['log_group'],
            'logStreamName' => $load['log_stream'],
            'clientContext' => $client,
            'identity' => $call['identity'] ?? null,
            'deadlineMs' => $call['deadline_ms'],
        ];
        $this->deadline = (int) $call['deadline_ms'];
    }

    public function getRemainingTimeInMillis(): int
    {
        return max(0, $this->deadline - (int) (microtime(true) * 1000));
    }

    public function __get(string $name): mixed
    {
        return $this->values[$name] ?? null;
    }

    public function __isset(string $name): bool
    {
        return isset($this->values[$name]);
    }

    /** getFunctionName() and its like. */
    public function __call(string $name, array $arguments): mixed
    {
        $key = lcfirst(substr($name, 3));
        if (!str_starts_with($name, 'get') || !array_key_exists($key, $this->values)) {
            throw new \BadMethodCallException("the context has no method {$name}");
        }
        return $this->values[$key];
    }

    public function offsetExists(mixed $offset): bool
    {
        return isset($this->values[$offset]);
    }

    public function offsetGet(mixed $offset): mixed
    {
        return $this->values[$offset] ?? null;
    }

    public function offsetSet(mixed $offset, mixed $value): void
    {
        throw new \LogicException('the context cannot be changed');
    }

    public function offsetUnset(mixed $offset): void
    {
        throw new \LogicException('the context cannot be changed');
    }

    public function jsonSerialize(): array
    {
        return $this->values;
    }
}

/** A failure of the runtime's own, with AWS's errorType. */
final class RuntimeError extends \Exception
{
    public function __construct(public readonly string $kind, string $message)
    {
        parent::__construct($message);
    }
}

/** Hooks around a snapshot: Alcove\Snapshot::before(...) and ::after(...) in the tenant's code. */
final class Snapshot
{
    private static array $before = [];
    private static array $after = [];

    public static function before(callable $hook): void
    {
        self::$before[] = $hook;
    }

    public static function after(callable $hook): void
    {
        self::$after[] = $hook;
    }

    /** The last registered runs first before a snapshot, the first registered after a restore. */
    public static function run(string $hook): void
    {
        foreach ($hook === 'before_snapshot' ? array_reverse(self::$before) : self::$after as $one) {
            $one();
        }
    }

    public static function forget(): void
    {
        self::$before = self::$after = [];
    }
}

final class Runtime
{
    private array $load = [];
    private mixed $handler = null;
    private ?int $pending = null; // the id of the frame that is being answered
    private string $requestId = '';
    private ?AnswerWriter $writer = null; // of the request that is being answered
    private Workers $workers;
    private bool $isWorker = false;
    private bool $fresh = false; // a worker that has answered nothing yet

    private static self $instance;
    private float $began = 0.0;

    private function __construct(private Channel $channel)
    {
        $this->workers = new Workers($channel);
        $this->setEnvironment([]);
        register_shutdown_function(fn () => $this->onEnd());
    }

    public static function start(): void
    {
        $named = getenv('ALCOVE_CHANNEL_FD');
        self::$instance = new self(Channel::ofDescriptor($named === false ? 3 : (int) $named));
        self::$instance->channel->send(READY, 0, '{"runtime": "php8.2", "protocol": 1}');
    }

    /** Return the runtime; no variable holds it, for globals are the tenant's. */
    public static function get(): self
    {
        return self::$instance;
    }

    // The loop

    /** Serve until a file is to be loaded, which the caller does, in the scope where the tenant's globals are. */
    public function fileToLoad(): string
    {
        for (;;) {
            [$kind, $id, $payload] = $this->next();
            $this->pending = $id;
            if ($kind === LOAD) {
                try {
                    return $this->onLoad($payload);
                } catch (\Throwable $error) {
                    $this->failed($error);
                    continue;
                }
            }
            [$answer, $document] = match ($kind) {
                INVOKE => $this->onInvoke($id, $payload),
                HOOK => $this->onHook($payload),
                UNLOAD => $this->onUnload(),
                PING => [PONG, $payload],
            };
            $this->answer($answer, $document);
        }
    }

    /** Return the next frame that is to be answered here. */
    private function next(): array
    {
        try {
            for (;;) {
                $this->workers->serve();
                [$kind, $id, $payload] = $this->channel->receive();
                $call = $kind === INVOKE && !$this->isWorker ? metadata($payload) : [];
                if (!($call['shared'] ?? false)) {
                    return [$kind, $id, $payload];
                }
                $channel = $this->workers->take($id, $call['request_id'], $payload);
                if ($channel !== null) {
                    [$this->channel, $this->isWorker, $this->fresh] = [$channel, true, true];
                }
            }
        } catch (Closed) {
            // The sandbox is over, or the runtime whose worker this is.
            exit(0);
        }
    }

    private function answer(int $kind, string $payload): void
    {
        [$id, $this->pending] = [$this->pending, null];
        // An answer that has begun ends, well or with an error.
        $this->channel->send($this->writer?->begun ? END : $kind, $id, $payload);
        $this->writer = null;
        if ($this->requestId !== '') {
            mark($this->requestId);
            $this->requestId = '';
        }
    }

    /** exit() and fatal errors end the process, but not before the caller has been told. */
    private function onEnd(): void
    {
        $this->workers->end();
        if ($this->pending === null) {
            return;
        }
        $error = error_get_last();
        $fatal = $error !== null && $error['type'] & (E_ERROR | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR);
        $request = $this->requestId === '' ? '' : "RequestId: {$this->requestId} ";
        $document = $fatal
            ? failure('Runtime.FatalError', $error['message'], ["#0 {$error['file']}({$error['line']})"])
            : failure('Runtime.ExitError', "{$request}Error: Runtime exited without providing a reason", []);
        if ($this->isWorker) {
            // Ahead of the answer, behind which the next request may come at once.
            $this->channel->send(UNLOAD, 0, '');
        }
        $this->answer(FAILURE, $document);
    }

    // Loading

    private function onLoad(string $payload): string
    {
        $this->began = hrtime(true);
        $this->load = json_decode($payload, true);
        reseed();
        $this->setEnvironment([...$this->variables(), ...$this->load['environment']]);
        chdir($this->load['task_root']);
        [$module] = $this->handlerName();
        $file = "{$this->load['task_root']}/{$module}.php";
        if (!is_file($file)) {
            throw new RuntimeError('Runtime.ImportModuleError', "Unable to import module '{$module}': no {$module}.php");
        }
        return $file;
    }

    /** The file is loaded; ``$value`` is what it returned. */
    public function loaded(mixed $value): void
    {
        [$module, $function] = $this->handlerName();
        if ($this->load['rehearsal'] && is_callable($value)) {
            $this->handler = $value;
        } elseif (function_exists($function)) {
            $this->handler = $function;
        } else {
            $message = "Handler '{$function}' missing on module '{$module}'";
            $this->failed(new RuntimeError('Runtime.HandlerNotFound', $message));
            return;
        }
        $this->answer(LOADED, sprintf('{"init_ms": %.3f}', (hrtime(true) - $this->began) / 1e6));
    }

    public function failed(\Throwable $error): void
    {
        $this->answer(FAILURE, thrown($error));
    }

    private function handlerName(): array
    {
        $name = $this->load['handler'];
        $dot = strrpos($name, '.');
        if (!$dot) {
            throw new RuntimeError('Runtime.MalformedHandlerName', "Bad handler '{$name}': file.function is wanted");
        }
        return [substr($name, 0, $dot), substr($name, $dot + 1)];
    }

    private function variables(): array
    {
        $level = $this->load['logging']['level'] ?? '';
        return [
            'AWS_LAMBDA_LOG_FORMAT' => $this->load['logging']['format'] ?? 'Text',
            ...($level === '' ? [] : ['AWS_LAMBDA_LOG_LEVEL' => $level]),
            '_HANDLER' => $this->load['handler'],
            'LAMBDA_TASK_ROOT' => $this->load['task_root'],
            'AWS_LAMBDA_FUNCTION_NAME' => $this->load['function_name'],
            'AWS_LAMBDA_FUNCTION_VERSION' => $this->load['version'],
            'AWS_LAMBDA_FUNCTION_MEMORY_SIZE' => (string) $this->load['memory_mib'],
            'AWS_LAMBDA_LOG_GROUP_NAME' => $this->load['log_group'],
            'AWS_LAMBDA_LOG_STREAM_NAME' => $this->load['log_stream'],
        ];
    }

    private function setEnvironment(array $values): void
    {
        foreach (array_keys(getenv()) as $name) {
            putenv($name);
        }
        $_ENV = [...DEFAULTS, ...$values];
        foreach ($_ENV as $name => $value) {
            putenv("{$name}={$value}");
        }
    }

    private function onUnload(): array
    {
        [$this->handler, $this->load] = [null, []];
        Snapshot::forget();
        chdir('/');
        $this->setEnvironment([]);
        clearstatcache(true);
        return [DONE, ''];
    }

    private function onHook(string $payload): array
    {
        $hook = json_decode($payload, true)['hook'];
        try {
            if ($hook === 'after_restore') {
                reseed();
            }
            Snapshot::run($hook);
            if ($hook === 'before_snapshot') {
                use_openssl();
            }
        } catch (\Throwable $error) {
            return [FAILURE, thrown($error)];
        }
        return [DONE, ''];
    }

    // Calls

    private function onInvoke(int $id, string $payload): array
    {
        $call = metadata($payload);
        $this->requestId = $call['request_id'];
        $this->writer = new AnswerWriter($this->channel, $id);
        putenv($call['trace_id'] ? "_X_AMZN_TRACE_ID={$call['trace_id']}" : '_X_AMZN_TRACE_ID');
        try {
            if ($this->handler === null) {
                throw new RuntimeError('Runtime.NotLoaded', 'no handler is loaded');
            }
            $this->wake();
            if ($this->isWorker) {
                SharedOutput::begin($call['request_id']);
            }
            $event = parse(substr($payload, 2 + unpack('n', $payload)[1]));
            $result = ($this->handler)($event, new Context($this->load, $call));
            if (!$result instanceof \Generator) {
                return [RESULT, serialise($result)];
            }
            $this->writer->sendAll($result);
            return [END, ''];
        } catch (\Throwable $error) {
            return [FAILURE, thrown($error)];
        } finally {
            // What a handler has buffered is its own request's.
            while (ob_get_level() > 0) {
                ob_end_flush();
            }
            flush();
            SharedOutput::end();
        }
    }

    /** A worker begins as a restored clone does: with generators and whatever its hooks make of its own. */
    private function wake(): void
    {
        if ($this->fresh) {
            $this->fresh = false;
            reseed();
            Snapshot::run('after_restore');
        }
    }
}

/** Return what INVOKE says of its request. */
function metadata(string $payload): array
{
    return json_decode(substr($payload, 2, unpack('n', $payload)[1]), true);
}

/** Tell the host where a request's output ends. */
function mark(string $requestId): void
{
    @fwrite(ERRORS, "\0alcove:end:{$requestId}\0");
}

function parse(string $event): mixed
{
    try {
        return $event === '' ? null : json_decode($event, true, 512, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    } catch (\JsonException $error) {
        throw new RuntimeError('Runtime.UnmarshalError', "Unable to unmarshal input: {$error->getMessage()}");
    }
}

function serialise(mixed $value): string
{
    $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;
    try {
        $answer = json_encode($value, $flags);
    } catch (\JsonException $error) {
        throw new RuntimeError('Runtime.MarshalError', "Unable to marshal response: {$error->getMessage()}");
    }
    if (strlen($answer) > MAX_RESULT) {
        $limit = 'exceeded maximum allowed payload size (' . MAX_RESULT . ' bytes).';
        $message = 'Response payload size (' . strlen($answer) . " bytes) {$limit}";
        throw new RuntimeError('Function.ResponseSizeTooLarge', $message);
    }
    return $answer;
}

/** Return the FAILURE document of what was thrown, with the tenant's own frames. */
function thrown(\Throwable $error): string
{
    if ($error instanceof RuntimeError) {
        return failure($error->kind, $error->getMessage(), []);
    }
    $kind = $error instanceof \ParseError ? 'Runtime.UserCodeSyntaxError' : $error::class;
    $stack = ["{$error->getFile()}:{$error->getLine()}"];
    foreach ($error->getTrace() as $frame) {
        $file = $frame['file'] ?? '';
        if (!str_starts_with($file, __DIR__ . '/php')) {
            $stack[] = "{$file}:" . ($frame['line'] ?? 0) . ' ' . $frame['function'];
        }
    }
    return failure($kind, $error->getMessage(), $stack);
}

function failure(string $kind, string $message, array $stack): string
{
    $document = [
        'errorMessage' => substr($message, 0, MAX_MESSAGE),
        'errorType' => $kind,
        'stackTrace' => array_slice($stack, 0, MAX_FRAMES),
    ];
    return json_encode($document, JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
}

/**
 * The agent has moved the clock ahead: generators of OpenSSL's used now find themselves seeded in the future when they are
 * used by a restored clone, and reseed (reseed_time_interval, OpenSSL crypto/rand/drbg.c). One is public, one for keys.
 */
function use_openssl(): void
{
    openssl_random_pseudo_bytes(1);
    openssl_pkey_new(['private_key_type' => OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1']);
}

/** Seed anew what draws from its own state. random_int() and random_bytes() ask the kernel each time. */
function reseed(): void
{
    mt_srand(random_int(0, PHP_INT_MAX));
}

Runtime::start();
for (;;) {
    try {
        Runtime::get()->loaded(include Runtime::get()->fileToLoad());
    } catch (\Throwable $alcove) {
        Runtime::get()->failed($alcove);
        unset($alcove);
    }
}
