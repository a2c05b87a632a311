<?php
// What a worker prints, said to be of the request that it answers: the host cuts output by it (functions/request_log.py).
declare(strict_types=1);

namespace Alcove;

final class SharedOutput extends \php_user_filter
{
    private static string $whose = '';

    public static function begin(string $requestId): void
    {
        if (stream_filter_register('alcove.of', self::class)) {
            stream_filter_append(STDOUT, 'alcove.of', STREAM_FILTER_WRITE);
            stream_filter_append(STDERR, 'alcove.of', STREAM_FILTER_WRITE);
        }
        self::$whose = $requestId;
        ob_start(self::told(...), 1);
    }

    public static function end(): void
    {
        self::$whose = '';
    }

    private static function told(string $text): string
    {
        $whose = self::$whose;
        return $text === '' || $whose === '' ? $text : "\0alcove:of:{$whose}\0{$text}\0alcove:of:\0";
    }

    public function filter($in, $out, &$consumed, bool $closing): int
    {
        while ($bucket = stream_bucket_make_writeable($in)) {
            $consumed += $bucket->datalen;
            $bucket->data = self::told($bucket->data);
            stream_bucket_append($out, $bucket);
        }
        return PSFS_PASS_ON;
    }
}
