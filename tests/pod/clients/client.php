<?php
// curl, which keeps its connection, and streams.
$url = "https://api.weixin.qq.com/cgi-bin/user/get?access_token=any-text";
$curl = curl_init($url);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
for ($well = 0; ; usleep(50000)) {
    $said = [curl_exec($curl), @file_get_contents($url)];
    if (count(array_filter($said, fn ($text) => isset(json_decode((string) $text)->total))) == 2) {
        if (++$well % 3 == 1) {
            echo "ok $well\n";
        }
    } else {
        echo "fail ", curl_error($curl), " ", json_encode($said), " ", json_encode(error_get_last()), "\n";
        usleep(200000);
    }
}
