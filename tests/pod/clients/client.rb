# Net::HTTP, with a connection for each call.
require "json"
require "net/http"

$stdout.sync = true
uri = URI("https://api.weixin.qq.com/cgi-bin/user/get?access_token=any-text")
well = 0
loop do
  said = JSON.parse(Net::HTTP.get(uri))
  raise said.to_json unless said["total"]

  well += 1
  puts "ok #{well}" if well % 3 == 1
rescue StandardError => e
  puts "fail #{e.inspect}"
  sleep 0.2
ensure
  sleep 0.05
end
