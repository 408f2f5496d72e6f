/*
 * The welcome screen: a clock, and greetings as they come. ECMAScript 5, no library but client.js. It
 * runs for months: one timer and one tick, lists with bounds, and elements are never made anew.
 *
 * Parameters of the page's address:
 *   doorno=1,2      which doors
 *   screen=lobby    the name in the reception's list of screens
 *   lang=zh|en      one language; without it Chinese with English beneath
 *   welcome, welcome2   the two lines of the idle screen, instead of the built-in ones
 *   night=22-6      hours in which the screen is dimmed; night=off never
 *   reload=3        hour of the nightly reload; reload=off never
 *   chime=1         a chime with each greeting (the browser must be allowed to play sounds)
 * All others go to the server.
 */
(function () {
  'use strict';

  var SHOW_MS = 8000;          // a greeting, unless the server says otherwise
  var SHOW_MOST_MS = 60000;
  var SHOW_BUSY_MS = 3000;     // while more wait
  var TTL_MS = 20000;          // until it is shown, unless the server says otherwise
  var MERGE_MS = 30000;        // the same person again: one greeting
  var WAITING = 5;             // greetings that wait, at most
  var REMEMBERED = 64;         // people in the merge list, at most
  var LOST_MS = 4000;          // a link that is back by then was never lost, for people
  var RELOAD_AFTER_MS = 20 * 3600000;
  var DRIFT = .7;              // how far the layout wanders, in % of the smaller side

  var WORDS = {
    zh: {
      hails: [[5, '早上好，欢迎光临'], [9, '上午好，欢迎光临'], [11, '中午好，欢迎光临'], [13, '下午好，欢迎光临'],
        [18, '晚上好，欢迎光临']],
      days: ['星期日', '星期一', '星期二', '星期三', '星期四', '星期五', '星期六'],
      next: '随后', lost: '连接中断'
    },
    en: {
      hails: [[5, 'Good morning, and welcome'], [12, 'Good afternoon, and welcome'],
        [18, 'Good evening, and welcome']],
      days: ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'],
      months: ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
        'November', 'December'],
      next: 'Next', lost: 'Connection lost'
    }
  };

  // Hours at which a part of the day begins, and the sky with it.
  var PARTS = [[0, 'night'], [5, 'dawn'], [8, 'morning'], [11, 'day'], [16, 'dusk'], [19, 'evening'], [22, 'night']];

  function byId(id) { return document.getElementById(id); }

  function elapsed() {
    return window.performance && performance.now ? performance.now() : Date.now();
  }

  function setText(node, text) {
    if (node.textContent !== text) { node.textContent = text; }
  }

  // ---- Parameters ----

  var own = {
    lang: '', welcome: '', welcome2: '', night: '22-6', reload: '3', chime: '',
    since: '', last: '', last_event_id: '', lastEventId: '', timeout: '', limit: ''
  };
  var passedOn = location.search.replace(/^\?/, '').split('&').filter(function (part) {
    var name = part.split('=')[0];
    if (!part || !own.hasOwnProperty(name)) { return part; }
    try { own[name] = decodeURIComponent(part.slice(name.length + 1).replace(/\+/g, ' ')); } catch (error) { return false; }
    return false;
  }).join('&');

  var lang = own.lang === 'en' ? 'en' : 'zh';
  var isBilingual = own.lang !== 'zh' && own.lang !== 'en';
  var night = /^(\d+)-(\d+)$/.exec(own.night);
  var body = document.body;
  var classes = {};

  function mark(name, isSet) {
    if (classes[name] === isSet) { return; }
    classes[name] = isSet;
    body.className = Object.keys(classes).filter(function (key) { return classes[key]; }).join(' ');
  }

  // ---- Greetings: who is next ----

  var waiting = []; // {greeting, expires}, the next one first
  var recent = [];  // {ref, at}, the oldest first
  var current = null;
  var timer = null;

  function arrive(greeting) {
    if (!greeting || !greeting.name) { return; }
    var now = elapsed();
    var ttl = greeting.ttl_ms >= 0 ? greeting.ttl_ms : TTL_MS;
    // What lay about in the network has aged there.
    if (greeting.sent_ms && link.isTimed()) { ttl -= Math.max(0, link.now() - greeting.sent_ms); }
    if (ttl <= 0) { return; }
    if (!isMerged(greeting, now, now + ttl)) { enqueue({ greeting: greeting, expires: now + ttl }, now); }
    step();
  }

  function isMerged(greeting, now, expires) {
    if (greeting.test || !greeting.ref) { return false; }
    recent = recent.filter(function (known) { return now - known.at < MERGE_MS; });
    for (var i = 0; i < recent.length; i++) {
      if (recent[i].ref !== greeting.ref) { continue; }
      waiting.forEach(function (item) {
        if (item.greeting.ref === greeting.ref) { item.expires = Math.max(item.expires, expires); }
      });
      return true;
    }
    return false;
  }

  function enqueue(item, now) {
    var at = waiting.length;
    while (at > 0 && priority(waiting[at - 1]) < priority(item)) { at -= 1; }
    waiting.splice(at, 0, item);
    remember(item.greeting.ref, now);
    // Who is turned away may swipe again.
    while (waiting.length > WAITING + (current ? 0 : 1)) { forget(waiting.pop().greeting.ref); }
  }

  function priority(item) { return Number(item.greeting.priority) || 0; }

  function remember(ref, now) {
    recent.push({ ref: ref, at: now });
    if (recent.length > REMEMBERED) { recent.shift(); }
  }

  function forget(ref) {
    recent = recent.filter(function (known) { return known.ref !== ref; });
  }

  // Shows what is due, and comes back when the next thing is.
  function step() {
    var now = elapsed();
    clearTimeout(timer);
    waiting = waiting.filter(function (item) { return item.expires > now; });
    if (current) {
      var showMs = waiting.length ? Math.min(SHOW_BUSY_MS, current.showMs) : current.showMs;
      if (now < current.since + showMs) {
        showNext();
        timer = setTimeout(step, current.since + showMs - now);
        return;
      }
      current = null;
    }
    if (!waiting.length) { return showIdle(); }
    var greeting = waiting.shift().greeting;
    current = { since: now, showMs: Math.min(Number(greeting.show_ms) || SHOW_MS, SHOW_MOST_MS) };
    show(greeting);
    step();
  }

  // ---- Greetings: how they look ----

  var card = byId('card');
  var photo = byId('photo');

  function show(greeting) {
    var isEnglish = greeting.lang === 'en';
    var hello = byId('hello');
    setText(hello, greeting.greeting || hail(isEnglish ? 'en' : 'zh').split(/[，,]/)[0]);
    if (isBilingual && !isEnglish && hello.textContent) {
      second.textContent = hail('en').split(',')[0];
      hello.appendChild(second);
    }
    card.lang = byId('next').lang = isEnglish ? 'en' : 'zh-CN';
    byId('name').textContent = greeting.name;
    byId('name').className = isWide(greeting.name) ? '' : 'latin';
    byId('title').textContent = greeting.title || '';
    byId('message').textContent = greeting.message || '';
    mark('pictured', Boolean(greeting.photo));
    photo.className = '';
    if (greeting.photo) { photo.src = greeting.photo; } else { photo.removeAttribute('src'); }
    fitAll();
    card.className = isEnglish ? 'english' : '';
    // The layout is asked for so that the animation begins anew.
    if (card.offsetWidth) { card.className += ' rises'; }
    mark('greets', true);
    showNext();
    chime();
  }

  function showIdle() {
    mark('greets', false);
    mark('queued', false);
    photo.removeAttribute('src');
    photo.className = '';
  }

  function showNext() {
    var slots = byId('next').children;
    var names = slots.length - 2;
    setText(slots[0], WORDS[lang].next);
    for (var i = 0; i < names; i++) { setText(slots[i + 1], waiting[i] ? waiting[i].greeting.name : ''); }
    setText(slots[names + 1], waiting.length > names ? '+' + (waiting.length - names) : '');
    mark('queued', waiting.length > 0);
  }

  photo.onload = function () { photo.className = 'there'; };
  photo.onerror = function () {
    if (!photo.getAttribute('src')) { return; }
    mark('pictured', false);
    fitAll();
  };

  // Chinese, Japanese, Korean: the type is square, and lines break anywhere.
  function isWide(text) { return /[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[\ud840-\ud87f]/.test(text); }

  function fitAll() {
    var tall = window.innerHeight > window.innerWidth;
    var unit = (tall ? window.innerWidth : window.innerHeight) / 100;
    var high = window.innerHeight / 100;
    var beside = classes.pictured && tall;
    var texts = [
      { node: byId('title'), most: (tall ? 4.8 : 4.6) * unit, least: 2 * unit, height: (beside ? 7 : 12) * high },
      { node: byId('message'), most: (tall ? 3.9 : 3.6) * unit, least: 1.6 * unit, height: (beside ? 8 : 17) * high },
      { node: byId('name'), most: (tall ? beside ? 18 : 22 : classes.pictured ? 21 : 25) * unit, least: 3 * unit,
        height: (beside ? 15 : 33) * high }
    ];
    // All is written before anything is measured: one layout.
    texts.forEach(function (text) {
      text.node.className = text.node.className.replace(/ ?breaks/, '');
      text.node.style.maxHeight = text.height + 'px';
      text.node.style.whiteSpace = 'nowrap';
      text.node.style.fontSize = text.most + 'px';
    });
    texts.forEach(function (text) {
      text.width = text.node.clientWidth;
      text.single = Math.min(1, text.width / Math.max(1, text.node.scrollWidth));
    });
    texts.forEach(fit);
  }

  // The largest type with which a text keeps within its column and its height; on one line if that is
  // not much smaller.
  function fit(text) {
    var node = text.node;
    if (text.single > .56) {
      if (text.single < 1) { node.style.fontSize = Math.floor(text.most * text.single * .995) + 'px'; }
      return;
    }
    node.style.whiteSpace = '';
    var low = text.least;
    var top = text.most;
    for (var i = 0; i < 8; i++) {
      var middle = (low + top) / 2;
      node.style.fontSize = middle + 'px';
      if (node.scrollWidth <= text.width && node.scrollHeight <= text.height) { low = middle; } else { top = middle; }
    }
    node.style.fontSize = low + 'px';
    // A word that is longer than a line.
    if (node.scrollWidth > text.width) { node.className += ' breaks'; }
  }

  var second = document.createElement('span');
  second.lang = 'en';

  // ---- The chime: two soft notes ----

  var audio = null;

  function chime() {
    var Audio = window.AudioContext || window.webkitAudioContext;
    if (own.chime !== '1' || !Audio) { return; }
    try {
      audio = audio || new Audio();
      if (audio.resume) { audio.resume(); }
      [[659.25, 0], [880, .18]].forEach(function (note) {
        var tone = audio.createOscillator();
        var gain = audio.createGain();
        var at = audio.currentTime + note[1];
        tone.frequency.value = note[0];
        gain.gain.setValueAtTime(.0001, at);
        gain.gain.exponentialRampToValueAtTime(.22, at + .02);
        gain.gain.exponentialRampToValueAtTime(.0001, at + 1.4);
        tone.connect(gain);
        gain.connect(audio.destination);
        tone.start(at);
        tone.stop(at + 1.5);
      });
    } catch (error) { own.chime = ''; }
  }

  // ---- Idle: clock, date, sky ----

  function two(number) { return (number < 10 ? '0' : '') + number; }

  // The time at the site: the server's clock, in its zone if it tells it, else in the display's.
  function time() {
    var about = link.about();
    var now = new Date(link.now());
    if (about && typeof about.utc_offset_s === 'number') {
      now = new Date(link.now() + (about.utc_offset_s + now.getTimezoneOffset() * 60) * 1000);
    }
    return now;
  }

  function pick(list, hour) {
    var found = list[list.length - 1][1];
    for (var i = 0; i < list.length; i++) {
      if (hour >= list[i][0]) { found = list[i][1]; }
    }
    return found;
  }

  function hail(language) {
    var hour = time().getHours();
    return hour < 5 ? pick(WORDS[language].hails, 23) : pick(WORDS[language].hails, hour);
  }

  function dateIn(language, date) {
    var words = WORDS[language];
    var day = words.days[date.getDay()];
    return language === 'zh' ? date.getMonth() + 1 + '月' + date.getDate() + '日　' + day
      : day + ', ' + date.getDate() + ' ' + words.months[date.getMonth()];
  }

  var minute = '';

  function tick() {
    var date = time();
    var now = two(date.getHours()) + ':' + two(date.getMinutes());
    showLink();
    if (now === minute) { return; }
    minute = now;
    var spans = byId('clock').children;
    setText(spans[0], two(date.getHours()));
    setText(spans[2], two(date.getMinutes()));
    setText(byId('hail'), own.welcome || hail(lang));
    setText(byId('hail2'), own.welcome2 || (isBilingual && !own.welcome ? hail('en') : ''));
    setText(byId('day'), dateIn(lang, date));
    setText(byId('day2'), isBilingual ? dateIn('en', date) : '');
    showSky(date);
    drift(date);
    reloadAtNight(date);
    report();
  }

  var skies = document.querySelectorAll('.sky');
  var onTop = 0;
  var part = '';
  var isSettled = false; // by the server's clock

  function showSky(date) {
    var hour = date.getHours();
    var next = pick(PARTS, hour);
    // What is first shown is there at once, what follows comes slowly.
    var isFirst = !part || !isSettled;
    if (link.isTimed()) { isSettled = true; }
    byId('sun').style.transitionDuration = byId('sun').style.webkitTransitionDuration = isFirst ? '0s' : '';
    if (next !== part) {
      part = next;
      onTop = 1 - onTop;
      skies[onTop].className = 'sky ' + part + ' on';
      skies[onTop].style.transitionDuration = isFirst ? '0s' : '';
      skies[1 - onTop].className = skies[1 - onTop].className.replace(' on', '');
    }
    var from = night ? Number(night[1]) : 0;
    var to = night ? Number(night[2]) : 0;
    mark('dark', from <= to ? hour >= from && hour < to : hour >= from || hour < to);
    // The sun from 5 to 20, the moon the rest of the day, each once over the right half.
    var hours = hour + date.getMinutes() / 60;
    var isDay = hours >= 5 && hours < 20;
    mark('moon', !isDay);
    var way = isDay ? (hours - 5) / 15 : ((hours + 4) % 24) / 9;
    var tall = window.innerHeight > window.innerWidth;
    var x = (tall ? .46 : .58) + .26 * way;
    var y = (tall ? .47 : .58) - (tall ? .12 : .28) * Math.sin(Math.PI * way);
    move(byId('sun'), x * window.innerWidth, y * window.innerHeight);
  }

  // Nothing stays on the same spot for long, or the panel keeps it for ever.
  function drift(date) {
    var minutes = date.getHours() * 60 + date.getMinutes();
    var far = Math.min(window.innerWidth, window.innerHeight) * DRIFT / 100;
    move(byId('stage'), Math.round(far * Math.sin(minutes / 7)), Math.round(far * Math.cos(minutes / 11)));
  }

  function move(node, x, y) {
    node.style.webkitTransform = node.style.transform = 'translate(' + x.toFixed(1) + 'px,' + y.toFixed(1) + 'px)';
  }

  // ---- The link ----

  var lostSince = elapsed();

  function showLink() {
    mark('lost', lostSince !== null && elapsed() - lostSince > LOST_MS);
  }

  function onState(state, why) {
    if (state === 'live' || state === 'polling') { lostSince = null; } else if (lostSince === null) { lostSince = elapsed(); }
    setText(byId('why'), why);
    tick();
  }

  // For the list of screens: not only the connection is alive. A poll says so by itself.
  function report() {
    if (link.state() !== 'live') { return; }
    var request = new XMLHttpRequest();
    request.open('GET', 'screen/alive?' + (passedOn ? passedOn + '&' : '') + '_=' + Date.now(), true);
    request.timeout = 30000;
    request.send();
  }

  // ---- The nightly reload: only while idle, and only if there is something to load ----

  var loadedAt = elapsed();
  var reloadMinute = Math.floor(Math.random() * 60);

  function reloadAtNight(date) {
    if (String(date.getHours()) !== own.reload || date.getMinutes() < reloadMinute || current || !link.isTimed() ||
        elapsed() - loadedAt < RELOAD_AFTER_MS || link.state() === 'lost') { return; }
    var request = new XMLHttpRequest();
    request.onreadystatechange = function () {
      if (request.readyState === 4 && request.status === 200 && !current && !waiting.length) { location.reload(); }
    };
    request.open('GET', 'readyz?_=' + Date.now(), true);
    request.send();
  }

  // ---- Begin ----

  window.addEventListener('resize', function () {
    minute = '';
    tick();
    if (current) { fitAll(); }
  });
  // Where it is allowed (HTTPS), the set does not fall asleep.
  function stayAwake() {
    if (navigator.wakeLock && !document.hidden) { navigator.wakeLock.request('screen').then(null, function () {}); }
  }
  document.addEventListener('visibilitychange', stayAwake);

  document.documentElement.lang = lang === 'en' ? 'en' : 'zh-CN';
  byId('lost').setAttribute('aria-label', WORDS[lang].lost);
  mark('english', lang === 'en');
  var link = doorcast.connect({
    url: 'screen/events',
    poll: 'screen/poll',
    params: passedOn,
    keep: 'doorcast-screen?' + passedOn,
    onrow: arrive,
    onstate: onState
  });
  setInterval(tick, 1000);
  tick();
  stayAwake();
}());
