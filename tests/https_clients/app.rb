# An app on Ruby's net/http: app.rb ROUNDS, or FILE instead of ROUNDS: then it makes rounds until there is this file, and
# one in which a call got no reply begins again.

require "json"
require "net/http"
require "securerandom"

HOST = "api.weixin.qq.com"
APPID = "wx0123456789abcdef"
SECRET = "no-secret-here"
# Why a call gets no reply.
LOST = [SystemCallError, IOError, OpenSSL::SSL::SSLError, Timeout::Error].freeze

def check(so, what)
  raise what unless so
end

# The reply as bytes, unless it says that the call failed. A call without a body is a GET.
def ask(client, target, body = nil, type = "application/json")
  request = body ? Net::HTTP::Post.new(target, "Content-Type" => type) : Net::HTTP::Get.new(target)
  request.body = body
  reply = client.request(request)
  check(reply.code == "200", reply.code)
  check(JSON.parse(reply.body).fetch("errcode", 0).zero?, reply.body) if reply.body.start_with?("{")
  reply.body
end

def round(client, token, number)
  followers = JSON.parse(ask(client, "/cgi-bin/user/get?access_token=#{token}"))
  check(followers["count"] == 2, followers)
  message = JSON.generate("touser" => "o1", "text" => "第 #{number} 天")
  ask(client, "/cgi-bin/message/custom/send?access_token=#{token}", message)

  picture = "\xff\xd8".b + SecureRandom.bytes(1_000_000)
  head = "--border\r\nContent-Disposition: form-data; name=\"media\"; filename=\"photo.jpg\"\r\n\r\n"
  form = head.b + picture + "\r\n--border--\r\n".b
  upload = "/cgi-bin/media/upload?access_token=#{token}&type=image"
  media = JSON.parse(ask(client, upload, form, "multipart/form-data; boundary=border"))["media_id"]
  again = ask(client, "/cgi-bin/media/get?access_token=#{token}&media_id=#{media}")
  check(again.b == picture, "another picture")

  code = ask(client, "/wxa/getwxacodeunlimit?access_token=#{token}", '{"scene":"a=1"}')
  check(code.b.start_with?("\xff\xd8".b), "no picture")
  ticket = JSON.parse(ask(client, "/cgi-bin/ticket/getticket?access_token=#{token}&type=jsapi"))
  check(ticket["ticket"], ticket)
  login = "appid=#{APPID}&secret=#{SECRET}&js_code=ruby-#{number}&grant_type=authorization_code"
  check(JSON.parse(ask(client, "/sns/jscode2session?#{login}"))["openid"], "nobody logged in")
end

# Makes the rounds, no two of one number, and returns how many.
def go_on(goal)
  until_file = goal !~ /\A\d+\z/
  done = again = 0
  until until_file ? File.exist?(goal) : done == goal.to_i
    begin
      yield done + again
      puts "round #{done += 1}"
    rescue *LOST => e
      raise if !until_file || again == 100

      again += 1
      puts "again: #{e.inspect}"
      sleep 0.1
    end
  end
  done
end

$stdout.sync = true
Net::HTTP.start(HOST, 443, use_ssl: true) do |client|
  credential = "grant_type=client_credential&appid=#{APPID}&secret=#{SECRET}"
  token = JSON.parse(ask(client, "/cgi-bin/token?#{credential}"))["access_token"]
  rounds = go_on(ARGV[0]) { |number| round(client, token, number) }
  puts "#{rounds} rounds without an error; its token was #{token}"
end
