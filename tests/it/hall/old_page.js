// Runs a welcome screen in a JavaScript engine without a browser, such as the V8 of Chromium 38 (node 0.12):
//
//   node old_page.js http://127.0.0.1:8080 '?doorno=1' events|polls
//
// Elements hold texts, classes and attributes, and have no size; requests are real ones. It prints
// "greeted NAME" for each greeting, and ends with an error where the page does.
'use strict';

var http = require('http');
var vm = require('vm');

var site = process.argv[2];
var search = process.argv[3];
var hasEvents = process.argv[4] === 'events';

function get(path, answer) {
  return http.get(site + '/' + path.replace(/^\//, ''), function (response) {
    response.setEncoding('utf8');
    answer(response);
  });
}

function read(path, answer) {
  get(path, function (response) {
    var text = '';
    response.on('data', function (part) { text += part; });
    response.on('end', function () { answer(text, response.statusCode, response.headers); });
  });
}

// ---- Elements ----

var all = [];

// The body shows whether somebody is greeted.
function tell() {
  var name = all.filter(function (node) { return node.id === 'name'; })[0];
  if (/\bgreets\b/.test(all[0].className)) { console.log('greeted ' + name.textContent); }
}

function Node(tag, id) {
  this.tag = tag;
  this.id = id;
  this.className = '';
  this.style = {};
  this.children = [];
  this.attributes = {};
  this.clientWidth = this.scrollWidth = this.clientHeight = this.scrollHeight = this.offsetWidth = 100;
}
Node.prototype.setAttribute = function (name, value) { this.attributes[name] = String(value); };
Node.prototype.getAttribute = function (name) {
  return Object.prototype.hasOwnProperty.call(this.attributes, name) ? this.attributes[name] : null;
};
Node.prototype.removeAttribute = function (name) { delete this.attributes[name]; };
Node.prototype.appendChild = function (node) {
  this.children.push(node);
  return node;
};
Object.defineProperty(Node.prototype, 'textContent', {
  get: function () {
    return this.children.length ? this.children.map(function (node) { return node.textContent; }).join('') : this.text || '';
  },
  set: function (text) {
    this.children = [];
    this.text = String(text);
    if (this.id === 'name') { setTimeout(tell, 0); }
  }
});

// The page's elements: those with an id or a class, and what is directly in them.
function parse(html) {
  var open = [];
  html.slice(html.indexOf('<body>')).replace(/<(\/?)(\w+)([^>]*)>/g, function (whole, end, tag, rest) {
    if (end) { return open.pop(); }
    var id = /\bid="(\w+)"/.exec(rest);
    var node = new Node(tag, id && id[1]);
    var className = /\bclass="([^"]*)"/.exec(rest);
    node.className = className ? className[1] : '';
    if (open.length) { open[open.length - 1].children.push(node); }
    all.push(node);
    if (tag !== 'img') { open.push(node); }
  });
}

// ---- Requests ----

function XMLHttpRequest() { this.readyState = 0; }
XMLHttpRequest.prototype.open = function (method, path) { this.path = path; };
XMLHttpRequest.prototype.send = function () {
  var self = this;
  read(this.path, function (text, status, headers) {
    self.readyState = 4;
    self.status = status;
    self.responseText = text;
    self.headers = headers;
    if (self.onreadystatechange) { self.onreadystatechange(); }
  });
};
XMLHttpRequest.prototype.getResponseHeader = function (name) { return this.headers[name.toLowerCase()] || null; };
XMLHttpRequest.prototype.abort = function () {};

function EventSource(path) {
  var self = this;
  var rest = '';
  var lastId = '';
  this.readyState = 0;
  this.heard = {};
  get(path, function (response) {
    self.readyState = 1;
    if (self.onopen) { self.onopen(); }
    response.on('data', function (part) {
      var blocks = (rest + part).split('\n\n');
      rest = blocks.pop();
      blocks.forEach(function (block) {
        var fields = {};
        block.split('\n').forEach(function (line) { fields[line.split(': ')[0]] = line.slice(line.indexOf(': ') + 2); });
        if (fields.id) { lastId = fields.id; }
        var heard = fields.data && self.heard[fields.event || 'message'];
        if (heard) { heard({ data: fields.data, lastEventId: lastId }); }
      });
    });
  });
}
EventSource.prototype.addEventListener = function (name, heard) { this.heard[name] = heard; };
EventSource.prototype.close = function () { this.readyState = 2; };

// ---- The page ----

function nothing() {}

read('screen' + search, function (html) {
  parse(html);
  var document = {
    body: all[0],
    documentElement: new Node('html'),
    hidden: false,
    createElement: function (tag) { return new Node(tag); },
    getElementById: function (id) { return all.filter(function (node) { return node.id === id; })[0] || null; },
    querySelectorAll: function (selector) {
      return all.filter(function (node) { return (' ' + node.className + ' ').indexOf(' ' + selector.slice(1) + ' ') >= 0; });
    },
    addEventListener: nothing
  };
  var window = {
    document: document, location: { search: search, reload: nothing }, navigator: {}, XMLHttpRequest: XMLHttpRequest,
    innerWidth: 1920, innerHeight: 1080, addEventListener: nothing, removeEventListener: nothing, console: console,
    setTimeout: setTimeout, setInterval: setInterval, clearTimeout: clearTimeout, clearInterval: clearInterval
  };
  if (hasEvents) { window.EventSource = EventSource; }
  window.window = window;
  vm.createContext(window);
  read('client.js', function (client) {
    read('screen.js', function (screen) {
      vm.runInContext(client, window, 'client.js');
      vm.runInContext(screen, window, 'screen.js');
      console.log('runs in V8 ' + process.versions.v8);
    });
  });
});
