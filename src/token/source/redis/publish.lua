-- ARGV: a note, its life in milliseconds
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return redis.status_reply('OK')
