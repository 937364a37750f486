-- ARGV: owner
if redis.call('GET', KEYS[2]) == ARGV[1] and tonumber(redis.call('GET', KEYS[4]) or 0) > 0 then
  redis.call('DECR', KEYS[4])
end
return redis.status_reply('OK')
