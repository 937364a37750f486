-- ARGV: owner
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {-1, 0} end
local fetches = redis.call('INCR', KEYS[4])
if fetches == 1 then redis.call('PEXPIRE', KEYS[4], 86400000) end
return {redis.call('PTTL', KEYS[2]), fetches}
