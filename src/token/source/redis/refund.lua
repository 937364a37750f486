-- ARGV: owner
local owner = redis.call('GET', KEYS[2])
local fetches = redis.call('GET', KEYS[4])
if owner == ARGV[1] and tonumber(fetches or 0) > 0 then
    redis.call('DECR', KEYS[4])
end
return redis.status_reply('OK')
