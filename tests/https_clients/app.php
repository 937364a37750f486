<?php
// An app on PHP's curl or its streams: app.php curl|streams ROUNDS.

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
        check($reply !== false, curl_error($handle));
        return $reply;
    },
    'streams' => function (string $url, ?string $body, string $type): string {
        $options = $body === null ? [] : ['method' => 'POST', 'header' => "Content-Type: $type", 'content' => $body];
        $reply = file_get_contents($url, false, stream_context_create(['http' => $options]));
        check($reply !== false, 'the call failed');
        return $reply;
    },
];

[, $name, $rounds] = $argv;
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
    $login = 'appid=' . APPID . '&secret=' . SECRET . "&js_code=code-$number&grant_type=authorization_code";
    check(json_decode(ask("/sns/jscode2session?$login"))->openid !== '', 'nobody logged in');
}

try {
    $credential = 'grant_type=client_credential&appid=' . APPID . '&secret=' . SECRET;
    $token = json_decode(ask("/cgi-bin/token?$credential"))->access_token;
    for ($number = 0; $number < (int) $rounds; $number++) {
        round_of_calls($token, $number);
    }
    echo "$rounds rounds without an error; its token was $token\n";
} catch (Throwable $error) {
    fwrite(STDERR, $error . "\n");
    exit(1);
}
