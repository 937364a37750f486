-- ARGV: owner
if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('DEL', KEYS[2])
end
return redis.status_reply('OK')
