-- For wrk: payments of many customers, each under a key of its own, and the figures in one line of JSON at the end.
-- Arguments: API key, prefix of the keys, customers, share of the customer c_0 in 1/10000, payees, smallest and largest amount in cents, seed.

local head, prefix, customers, favourite, payees, smallest, largest
local asked = 0
local random = math.random
local format = string.format

function init(args)
   head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: " .. args[1] .. "\r\nContent-Type: application/json\r\nContent-Length: "
   prefix = args[2]
   customers, favourite, payees = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
   smallest, largest = tonumber(args[6]), tonumber(args[7])
   math.randomseed(tonumber(args[8]))
end

function request()
   asked = asked + 1
   local customer = random(0, customers - 1)
   if favourite > 0 and random(10000) <= favourite then customer = 0 end
   local amount = random(smallest, largest)
   local body = format('{"customerId":"c_%d","amount":"%d.%02d","currency":"USD","payeeId":"p_%d","idempotencyKey":"%s-%d"}',
      customer, math.floor(amount / 100), amount % 100, random(0, payees - 1), prefix, asked)
   return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(format('figures {"requests": %d, "duration_us": %d, ', summary.requests, summary.duration))
   io.write(format('"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}, ',
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
   io.write(format('"p50_us": %d, "p95_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
      latency:percentile(50), latency:percentile(95), latency:percentile(99), latency:percentile(99.9), latency.max))
end
