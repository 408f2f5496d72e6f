/*
 * doorcast's client: rows as they are committed, in any page. ECMAScript 5 and no library.
 *
 *   <script src="/client.js"></script>
 *   <script>
 *     var link = doorcast.connect({
 *       params: { doorno: '1,2' },
 *       onrow: function (row, id) { console.log(id, row.doorno); },
 *       onstate: function (state) { document.title = state; }
 *     });
 *   </script>
 *
 * By server-sent events; where those don't come through it polls, and goes back to events when they
 * do. It never gives up. Each row comes once, in commit order, across lost connections and restarts.
 *
 * Options, none of which must be given:
 *   url      where events come from; 'events', beside the page
 *   poll     where to poll; 'poll', beside the page
 *   params   which rows: { column: 'value,value' }, or a query string
 *   first    the same, only as long as there is no place to go on from: { last: 100 }
 *   since    the id to go on after; otherwise what was kept, otherwise from now on
 *   keep     a name: the place is kept under it, so that a page that is loaded again goes on where
 *            it was. One name for each list of params
 *   keepIn   'session', the default: until the tab is closed; 'local': also after that
 *   onrow    function (row, id). Integers beyond 15 digits are strings, for no number holds them;
 *            what moves no place, such as a test of a screen, has no id
 *   ongap    function (gap): { after, resumes_at, reason }; rows may be missing here
 *   onstate  function (state, why), at each change:
 *              'connecting'  nothing came yet
 *              'live'        by events
 *              'polling'     by long poll
 *              'lost'        trying again; `why` is what the server said, if it said anything
 *
 * What connect() returns:
 *   state()   as above
 *   cursor()  the id to go on after, or null
 *   now()     the server's clock in ms since 1970; this machine's only until it was told
 *   isTimed() whether it was
 *   about()   the server's last hello, or null
 *   close()   ends it
 */
(function (window) {
  'use strict';

  var MISSED_HEARTBEATS = 2.5;  // silence after which a stream counts as lost
  var HEARTBEAT_MS = 15000;     // until the server says otherwise
  var FIRST_WORD_MS = 10000;    // silence after which a stream that never spoke counts as lost
  var TOLD_TO_WAIT_MS = 60000;  // the same, if the server ended it in good order: it is full, or stops
  var STREAM_TRIES = 2;         // streams without a word before it polls
  var STREAM_AGAIN_MS = 600000; // how long it polls before a stream is tried again
  var POLL_S = 25;
  var PAUSE_MS = [1000, 5000];   // a swipe is worth little after 20 s
  var LONGEST_PAUSE_MS = 120000; // that a server may ask for
  var KNOWN = 1000;             // ids that are remembered, against rows that come twice
  var KEEP_MS = 1000;           // between two writes of the place
  var LOOK_MS = 1000;

  // Time that goes neither back nor in leaps, unlike a set's clock.
  function elapsed() {
    return window.performance && performance.now ? performance.now() : Date.now();
  }

  // JSON, with integers that a script can't hold exactly as strings.
  function parse(json) {
    var token = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
    return JSON.parse(json.replace(token, function (text) {
      return /^-?\d{16,}$/.test(text) ? '"' + text + '"' : text;
    }));
  }

  function queryOf(params) {
    if (!params) { return []; }
    if (typeof params === 'string') { return params.replace(/^\?/, '').split('&').filter(Boolean); }
    return Object.keys(params).map(function (name) {
      return encodeURIComponent(name) + '=' + encodeURIComponent(params[name]);
    });
  }

  // Storage throws where it is forbidden or full, and may not be there at all.
  function storage(kind) {
    try { return kind === 'local' ? window.localStorage : window.sessionStorage; } catch (error) { return null; }
  }

  function connect(options) {
    var url = options.url || 'events';
    var pollUrl = options.poll || 'poll';
    var params = queryOf(options.params);
    var first = queryOf(options.first);
    var store = options.keep ? storage(options.keepIn) : null;
    var closed = false;

    // ---- The place ----

    var cursor = options.since || kept();
    var written = cursor;
    var writer = null;

    function kept() {
      try { return (store && store.getItem(options.keep)) || null; } catch (error) { return null; }
    }

    function write() {
      clearTimeout(writer);
      writer = null;
      if (!store || cursor === written) { return; }
      written = cursor;
      try {
        if (cursor === null) { store.removeItem(options.keep); } else { store.setItem(options.keep, cursor); }
      } catch (error) { store = null; }
    }

    function moveTo(id) {
      cursor = id;
      if (store && writer === null) { writer = setTimeout(write, KEEP_MS); }
    }

    function address(path, more) {
      var from = cursor === null ? first : ['since=' + encodeURIComponent(cursor)];
      var query = from.concat(more || [], params).join('&');
      return query ? path + (path.indexOf('?') < 0 ? '?' : '&') + query : path;
    }

    // ---- Rows ----

    var known = {};
    var knownIds = [];

    function isNew(id) {
      if (Object.prototype.hasOwnProperty.call(known, id)) { return false; }
      known[id] = true;
      knownIds.push(id);
      if (knownIds.length > KNOWN) { delete known[knownIds.shift()]; }
      return true;
    }

    function row(id, value) {
      if (id) {
        if (!isNew(id)) { return; }
        moveTo(id);
      }
      call('onrow', value, id);
    }

    // A page's mistake must not end its connection.
    function call(name, one, two) {
      if (!options[name]) { return; }
      try {
        options[name](one, two);
      } catch (error) {
        setTimeout(function () { throw error; }, 0);
      }
    }

    // ---- State ----

    var state = 'connecting';
    var why = '';
    var failures = 0;

    function say(next, reason) {
      if (state === next && why === (reason || '')) { return; }
      state = next;
      why = reason || '';
      call('onstate', state, why);
    }

    function works(as) {
      failures = 0;
      say(as);
    }

    function lost(reason) {
      failures += 1;
      say('lost', reason);
    }

    function pause() {
      var longest = Math.min(PAUSE_MS[1], PAUSE_MS[0] * Math.pow(2, Math.min(failures, 10)));
      return longest * (0.5 + Math.random() / 2);
    }

    // ---- The server's clock ----

    var timeAt = null; // {server, elapsed}

    function clock(serverMs) {
      if (serverMs > 0) { timeAt = { server: serverMs, elapsed: elapsed() }; }
    }

    function now() {
      return timeAt ? timeAt.server + elapsed() - timeAt.elapsed : Date.now();
    }

    // ---- Server-sent events ----

    var source = null;
    var heartbeat = HEARTBEAT_MS;
    var lastWord = 0;      // when anything came
    var silentStreams = 0; // streams in a row that never said hello
    var isOpen = false;    // whether this one was accepted
    var about = null;
    var timer = null;

    function later(what, ms) {
      clearTimeout(timer);
      timer = setTimeout(what, ms);
    }

    function stream() {
      lastWord = elapsed();
      silentStreams += 1;
      isOpen = false;
      try {
        source = new window.EventSource(address(url));
      } catch (error) {
        silentStreams = STREAM_TRIES;
        return endStream();
      }
      var own = source;
      var lastId = '';
      // An event without an id shows the one before's: it is known by that.
      function idOf(event) {
        if (event.lastEventId === lastId) { return ''; }
        lastId = event.lastEventId;
        return lastId;
      }
      function on(name, take) {
        own.addEventListener(name, function (event) {
          if (own !== source) { return; }
          lastWord = elapsed();
          var id = idOf(event);
          take(event, id);
          // Not only rows have one: a cursor whose filter passes nothing keeps up.
          if (id && id !== cursor) { moveTo(id); }
        });
      }
      own.onopen = function () {
        isOpen = true;
        lastId = '';
      };
      on('hello', function (event) {
        about = parse(event.data);
        heartbeat = about.heartbeat_ms || HEARTBEAT_MS;
        clock(about.now_ms);
        silentStreams = 0;
        works('live');
      });
      on('ping', function (event) {
        clock(parse(event.data).now_ms);
        silentStreams = 0;
        works('live');
      });
      on('gap', function (event) { call('ongap', parse(event.data)); });
      on('message', function (event, id) { row(id, parse(event.data)); });
      own.onerror = function () {
        if (own !== source) { return; }
        // It comes back by itself, unless it was refused; the watchdog sees to a silent one.
        if (own.readyState === 2) { endStream(); } else { lost(); }
      };
    }

    function dropStream() {
      var own = source;
      source = null;
      if (own) { own.close(); }
    }

    function endStream() {
      dropStream();
      lost();
      if (silentStreams >= STREAM_TRIES) {
        streamAgainAt = elapsed() + STREAM_AGAIN_MS;
        later(poll, 0);
      } else {
        later(stream, pause());
      }
    }

    function look() {
      if (!source) { return; }
      var patience = silentStreams === 0 ? heartbeat * MISSED_HEARTBEATS
        : isOpen && failures > 0 ? TOLD_TO_WAIT_MS : FIRST_WORD_MS;
      if (elapsed() - lastWord > patience) { endStream(); }
    }

    // ---- Long poll ----

    var streamAgainAt = Infinity;
    var request = null;
    var answered = false;

    function poll() {
      var own = request = new XMLHttpRequest();
      // A short wait first, to know soon that the server is there.
      var wait = answered && failures === 0 ? POLL_S : 1;
      var over = false;
      // A connection may die without a word.
      var guard = setTimeout(done, (wait + 15) * 1000);

      function done() {
        if (over || closed) { return; }
        over = true;
        request = null;
        clearTimeout(guard);
        if (own.readyState !== 4) {
          own.abort();
        } else if (own.status === 200 && take(own.responseText)) {
          clock(Date.parse(own.getResponseHeader('Date') || ''));
          works('polling');
          if (elapsed() >= streamAgainAt && window.EventSource) {
            silentStreams = STREAM_TRIES - 1;
            later(stream, 0);
          } else {
            later(poll, 0);
          }
          return;
        }
        lost(problem(own));
        later(poll, Math.max(pause(), askedPause(own)));
      }

      own.onreadystatechange = function () { if (own.readyState === 4) { done(); } };
      own.open('GET', address(pollUrl, ['timeout=' + wait, '_=' + Date.now()]), true);
      own.send();
    }

    function take(text) {
      var answer;
      try { answer = parse(text); } catch (error) { return false; }
      if (!answer || !answer.events) { return false; }
      answered = true;
      if (answer.gap) { call('ongap', answer.gap); }
      for (var i = 0; i < answer.events.length; i++) { row(answer.events[i].id, answer.events[i].row); }
      moveTo(answer.next);
      // The server was away: perhaps it was only that, and streams come through.
      if (failures > 0 && streamAgainAt !== Infinity) { streamAgainAt = elapsed(); }
      return true;
    }

    // What the server says is wrong, where it says so.
    function problem(refused) {
      try {
        var error = JSON.parse(refused.responseText).error;
        if (error.code === 'bad_since') { moveTo(null); }
        return refused.status === 503 ? '' : error.message;
      } catch (error) {
        return '';
      }
    }

    function askedPause(refused) {
      var seconds = refused.readyState === 4 ? parseFloat(refused.getResponseHeader('Retry-After')) : 0;
      return seconds > 0 ? Math.min(seconds * 1000, LONGEST_PAUSE_MS) * (1 + Math.random() / 2) : 0;
    }

    // ---- Begin and end ----

    // The network is back: don't wait out the pause.
    function hurry() {
      if (closed || source || request) { return; }
      later(silentStreams >= STREAM_TRIES || !window.EventSource ? poll : stream, Math.random() * 1000);
    }

    function close() {
      closed = true;
      write();
      dropStream();
      clearTimeout(timer);
      clearInterval(watch);
      if (request) { request.abort(); }
      window.removeEventListener('online', hurry);
      window.removeEventListener('pagehide', write);
    }

    var watch = setInterval(look, LOOK_MS);
    window.addEventListener('online', hurry);
    window.addEventListener('pagehide', write);
    // Not at once: callbacks may want what connect() returns.
    later(window.EventSource ? stream : poll, 0);

    return {
      state: function () { return state; },
      cursor: function () { return cursor; },
      now: now,
      isTimed: function () { return timeAt !== null; },
      about: function () { return about; },
      close: close
    };
  }

  window.doorcast = { connect: connect };
}(window));
