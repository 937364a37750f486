<?php
// An app on PHP's curl or its streams: app.php curl|streams ROUNDS, or FILE instead of ROUNDS: then it makes rounds until
// there is this file, and one in which a call got no reply begins again.

declare(strict_types=1);

const BASE = 'https://api.weixin.qq.com';
const APPID = 'wx0123456789abcdef';
const SECRET = 'no-secret-here';

function check(bool $so, string $what): void
{
    if (!$so) {
        throw new Exception($what);
    }
}

// A call got no reply, or not all of it.
class Lost extends Exception
{
}

// Both give the body of the reply. A call without a body is a GET.
$clients = [
    'curl' => function (string $url, ?string $body, string $type): string {
        static $handle;
        $handle ??= curl_init();
        curl_reset($handle);
        curl_setopt_array($handle, [CURLOPT_URL => $url, CURLOPT_RETURNTRANSFER => true, CURLOPT_FAILONERROR => true]);
        if ($body !== null) {
            curl_setopt_array($handle, [CURLOPT_POSTFIELDS => $body, CURLOPT_HTTPHEADER => ["Content-Type: $type"]]);
        }
        $reply = curl_exec($handle);
        check(curl_errno($handle) !== CURLE_HTTP_RETURNED_ERROR, curl_error($handle));
        return is_string($reply) ? $reply : throw new Lost(curl_error($handle));
    },
    'streams' => function (string $url, ?string $body, string $type): string {
        $options = $body === null ? [] : ['method' => 'POST', 'header' => "Content-Type: $type", 'content' => $body];
        $context = stream_context_create(['http' => $options + ['ignore_errors' => true]]);
        $reply = @file_get_contents($url, false, $context);
        if ($reply === false) {
            throw new Lost(error_get_last()['message'] ?? 'no reply');
        }
        check(str_contains($http_response_header[0], ' 200'), $http_response_header[0]);
        $lengths = preg_grep('/^content-length: /i', $http_response_header);
        if ($lengths && strlen($reply) < (int) substr(end($lengths), strlen('content-length: '))) {
            throw new Lost('half a reply');
        }
        return $reply;
    },
];

[, $name, $end] = $argv;
$send = $clients[$name];

function ask(string $target, ?string $body = null, string $type = 'application/json'): string
{
    global $send;
    $reply = $send(BASE . $target, $body, $type);
    if (str_starts_with($reply, '{')) {
        check((json_decode($reply)->errcode ?? 0) === 0, $reply);
    }
    return $reply;
}

function round_of_calls(string $token, int $number): void
{
    global $name;
    $followers = ask("/cgi-bin/user/get?access_token=$token");
    check(json_decode($followers)->count === 2, $followers);
    ask("/cgi-bin/message/custom/send?access_token=$token", json_encode(['touser' => 'o1', 'text' => "第 $number 天"]));

    $picture = "\xff\xd8" . random_bytes(1_000_000);
    $head = "--border\r\nContent-Disposition: form-data; name=\"media\"; filename=\"photo.jpg\"\r\n\r\n";
    $upload = "/cgi-bin/media/upload?access_token=$token&type=image";
    $uploaded = ask($upload, "$head$picture\r\n--border--\r\n", 'multipart/form-data; boundary=border');
    $media = json_decode($uploaded)->media_id;
    check(ask("/cgi-bin/media/get?access_token=$token&media_id=$media") === $picture, 'another picture');

    $code = ask("/wxa/getwxacodeunlimit?access_token=$token", '{"scene":"a=1"}');
    check(str_starts_with($code, "\xff\xd8"), 'no picture');
    check(json_decode(ask("/cgi-bin/ticket/getticket?access_token=$token&type=jsapi"))->ticket !== '', 'no ticket');
    $login = 'appid=' . APPID . '&secret=' . SECRET . "&js_code=php-$name-$number&grant_type=authorization_code";
    check(json_decode(ask("/sns/jscode2session?$login"))->openid !== '', 'nobody logged in');
}

// Makes the rounds, no two of one number, and returns how many.
function go_on(string $end, string $token): int
{
    $until_file = !ctype_digit($end);
    $done = $again = 0;
    while ($until_file ? !file_exists($end) : $done < (int) $end) {
        clearstatcache();
        try {
            round_of_calls($token, $done + $again);
            $done++;
            echo "round $done\n";
        } catch (Lost $lost) {
            if (!$until_file || $again == 100) {
                throw $lost;
            }
            $again++;
            echo "again: {$lost->getMessage()}\n";
            usleep(100_000);
        }
    }
    return $done;
}

try {
    $credential = 'grant_type=client_credential&appid=' . APPID . '&secret=' . SECRET;
    $token = json_decode(ask("/cgi-bin/token?$credential"))->access_token;
    $rounds = go_on($end, $token);
    echo "$rounds rounds without an error; its token was $token\n";
} catch (Throwable $error) {
    fwrite(STDERR, $error . "\n");
    exit(1);
}
